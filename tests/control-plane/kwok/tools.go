//go:build tools

// Package tools pins the programs of the control plane that the tests build.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
