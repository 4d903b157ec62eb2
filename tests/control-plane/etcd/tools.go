//go:build tools

// Package tools pins the programs of the control plane that the tests build.
package tools

import _ "go.etcd.io/etcd/server/v3"
