package observer_test

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"pmemtable/internal/guest/observer"
	"pmemtable/internal/guest/session"
)

// TestMain makes the test program a session when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv("GUEST_SESSION") != "" {
		if err := session.Serve(os.Stdin, os.Stdout, nil); err != nil {
			session.Fail(os.Stdout, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestProcessesThatAreKilled: a kill -9 takes nothing, whatever the durability.
func TestProcessesThatAreKilled(t *testing.T) {
	o := observer.New(session.Config{Dir: t.TempDir(), Seed: 1, Writers: 3}, true, io.Discard)
	for i := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GUEST_SESSION=1")
		p, err := observer.StartProcess(cmd)
		if err != nil {
			t.Fatal(err)
		}
		plan := observer.Plan{After: 150 * time.Millisecond, InOpening: i == 2, Stop: i == 3}
		if plan.InOpening {
			plan.After = 3 * time.Millisecond
		}
		if err := o.Session(p, plan); err != nil {
			t.Fatal(err)
		}
	}
	r := o.Result
	if r.Kills != 3 || r.Lost != 0 || len(r.Problems) != 0 || r.Acknowledged == 0 || r.Verified == 0 {
		t.Fatalf("%+v", r)
	}
	t.Logf("%+v", r)
}
