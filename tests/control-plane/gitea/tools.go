//go:build tools

// Package tools pins the programs that the tests build.
package tools

import _ "code.gitea.io/gitea"
