// Package killtest kills processes in tests: a child, which is the test binary again,
// changes a file and acknowledges each change; the test kills it at a random moment and
// looks at what is left.
package killtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// childEnv holds the arguments of a child.
const childEnv = "PMEMTABLE_KILL_CHILD"

// Main is a TestMain whose process, if it is a child, runs child with its arguments
// instead of the tests. child goes on until it is killed; that it returns is a failure.
func Main(m *testing.M, child func(args string) error) {
	if args := os.Getenv(childEnv); args != "" {
		fmt.Fprintln(os.Stderr, "the child ended:", child(args))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Acknowledge is called by a child after a change that returned. All calls of a child
// say as many bytes.
func Acknowledge(b []byte) error {
	_, err := os.Stdout.Write(b)
	return err
}

// Run starts a child and kills it some time after it has acknowledged so many changes;
// said is called with the bytes of each acknowledgement, sizeBytes of them. It returns how
// many there were, those that came before the kill took effect among them. One that was
// cut off is none.
func Run(t testing.TB, args string, acks int, later time.Duration, sizeBytes int, said func(b []byte)) (acked int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+args)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, sizeBytes); ; {
		if _, err := io.ReadFull(out, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		said(b)
		if acked++; acked == acks {
			time.Sleep(later)
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || acked < acks {
		t.Fatalf("the child ended by itself after %d acknowledgements: %v", acked, err)
	}
	return acked
}
