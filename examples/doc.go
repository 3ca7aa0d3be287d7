// Package examples holds small programs that use pmemtable as a library.
//
//	go run ./examples/counter visits.pmt
package examples
