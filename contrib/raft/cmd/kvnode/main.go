// Kvnode runs a node of a replicated key-value store; see package kv and the
// module's README.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"pmemtable/contrib/raft/kv"
)

func main() {
	err := kv.Main(os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kvnode:", err)
		os.Exit(1)
	}
}
