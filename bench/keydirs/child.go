package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"pmemtable/examples/bitcask"
)

// request is what a child is to do with a store.
type request struct {
	Dir        string
	GoMap      bool
	Keys       int
	ValueBytes int
	Puts       int  // of keys from 0 on; 0: a Get, and what opening cost
	Close      bool // otherwise wait to be killed
}

// serveIfChild does what the parent asks for, if there is one.
func serveIfChild() bool {
	encoded := os.Getenv(childVariable)
	if encoded == "" {
		return false
	}
	if err := serve(encoded); err != nil {
		fmt.Fprintln(os.Stderr, "keydirs, child:", err)
		os.Exit(1)
	}
	return true
}

func serve(encoded string) error {
	var q request
	if err := json.Unmarshal([]byte(encoded), &q); err != nil {
		return err
	}
	began := time.Now()
	s, err := bitcask.Open(q.Dir, &bitcask.Options{GoMap: q.GoMap})
	if err != nil {
		return err
	}
	var f figures
	if q.Puts > 0 {
		err = put(s, q)
	} else {
		_, err = s.Get(key(q.Keys / 2))
		f.OpenMs = milliseconds(time.Since(began))
		f.HeapMiB, f.GCMs = heap()
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		return err
	}
	if q.Close {
		return s.Close()
	}
	_, err = io.Copy(io.Discard, os.Stdin) // until the parent kills, or is gone
	runtime.KeepAlive(s)
	return err
}

func put(s *bitcask.Store, q request) error {
	value := make([]byte, q.ValueBytes)
	for i := range q.Puts {
		if err := s.Put(key(i), value); err != nil {
			return err
		}
	}
	return s.Sync()
}

// key returns the i-th key, of 16 bytes.
func key(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("the key "), uint64(i))
}

// heap returns what the Go heap holds, and how long a forced collection takes.
func heap() (sizeMiB, gcMs float64) {
	runtime.GC()
	began := time.Now()
	runtime.GC()
	gcMs = milliseconds(time.Since(began))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20), gcMs
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }
