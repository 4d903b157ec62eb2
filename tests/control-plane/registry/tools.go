//go:build tools

// Package tools pins the programs that the tests build.
package tools

import _ "github.com/distribution/distribution/v3/cmd/registry"
