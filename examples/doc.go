// Package examples holds small programs that use pmemtable as a library.
//
//	go run ./examples/counter visits.pmt
//	cd examples/bitcask && go test -short ./...   a log-structured store, in a module of its own
package examples
