// Package lint holds the house rules that a compiler does not check, as a
// test: which package may import which, who may use unsafe, what the library
// may depend on. The list is in lint_test.go.
package lint
