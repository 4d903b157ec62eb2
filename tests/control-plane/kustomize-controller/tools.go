//go:build tools

// Package tools pins the programs that the tests build.
package tools

import _ "github.com/fluxcd/kustomize-controller"
