package crashtest

import (
	"bytes"
	"fmt"
)

// Workload is a program to crash.
type Workload interface {
	// Run runs the program on a medium that holds t.Image() and whose stores go
	// to t; it brackets each operation between t.Begin and t.Ack. It returns what
	// the medium holds at the end, for the audit, or nil for none.
	Run(t *Tracer) (medium []byte, err error)
}

// WorkloadFunc is a function as a Workload.
type WorkloadFunc func(t *Tracer) (medium []byte, err error)

// Run calls f.
func (f WorkloadFunc) Run(t *Tracer) ([]byte, error) { return f(t) }

// Oracle judges what a crash left behind.
type Oracle interface {
	// Judge opens a copy of c.Image as the program would after a crash, and
	// returns an error unless every operation of c.Acked is there, each of
	// c.Pending whole or not at all, and nothing else.
	Judge(c *Crash) error
}

// OracleFunc is a function as an Oracle.
type OracleFunc func(c *Crash) error

// Judge calls f.
func (f OracleFunc) Judge(c *Crash) error { return f(c) }

// Suite runs a workload once and crashes it everywhere.
type Suite struct {
	// Image is what the medium holds before, all of it durable.
	Image    []byte
	Workload Workload
	Oracle   Oracle
	Model    Model
	Bound    Bound
	// Recovery, unless nil, is what the program does after a crash: it is run on
	// the image of every RecoverEvery-th crash, and crashed itself. The Oracle
	// judges what that leaves by the operations of the first crash.
	Recovery     Workload
	RecoverEvery int   // 0: 1
	DeepBound    Bound // of crashes in recovery
	// Seen lets suites with the same Image and Oracle share what was judged.
	Seen Seen
}

// Violation is the error of a Suite whose Oracle rejected an image.
type Violation struct {
	Crash string // says what was lost
	Image []byte
	First []byte // the image that was being recovered from, nil if none was
	Trace *Trace
	Err   error // the Oracle's
}

// Error implements error.
func (v *Violation) Error() string { return v.Err.Error() + "\n" + v.Crash }

// Unwrap returns the Oracle's error.
func (v *Violation) Unwrap() error { return v.Err }

// Run returns a *Violation for the first image that the Oracle rejects.
func (s *Suite) Run() (Figures, error) {
	t := NewTracer(s.Image)
	t.Anonymous = true
	medium, err := s.Workload.Run(t)
	if err != nil {
		return Figures{}, fmt.Errorf("the workload failed without any crash: %w", err)
	}
	trace := t.Trace()
	if medium != nil {
		if err := trace.Audit(medium); err != nil {
			return Figures{}, err
		}
	}
	return s.Crash(trace)
}

// Crash crashes a trace that was recorded before.
func (s *Suite) Crash(trace *Trace) (Figures, error) {
	var deep Figures
	deepSeen, n := Seen{}, 0
	figures, err := trace.Crashes(s.Model, s.Bound, s.Seen, func(c *Crash) error {
		if err := s.Oracle.Judge(c); err != nil {
			return violation(c, trace, err)
		}
		if n++; s.Recovery == nil || n%max(s.RecoverEvery, 1) != 0 {
			return nil
		}
		f, err := s.crashRecovery(c, deepSeen)
		deep.Add(f)
		return err
	})
	deep.Deep, deep.Recoveries, deep.Traces = deep.Images, deep.Traces, 0
	figures.Add(deep)
	return figures, err
}

// crashRecovery recovers from a crash and crashes that.
func (s *Suite) crashRecovery(first *Crash, seen Seen) (Figures, error) {
	t := NewTracer(first.Image)
	t.Anonymous = true
	medium, err := s.Recovery.Run(t)
	if err != nil {
		return Figures{}, violation(first, first.e.trace, fmt.Errorf("recovery failed: %w", err))
	}
	trace := t.Trace()
	if medium != nil {
		if err := trace.Audit(medium); err != nil {
			return Figures{}, err
		}
	}
	e := newEnumerator(trace, s.Model, s.DeepBound, seen, func(c *Crash) error {
		c.Acked, c.Pending, c.First = first.Acked, first.Pending, first
		if err := s.Oracle.Judge(c); err != nil {
			return violation(c, trace, fmt.Errorf("crash inside recovery: %w", err))
		}
		return nil
	})
	e.hash, e.ackedHash = first.e.hash, first.e.ackedHash // one space of keys
	err = e.run()
	return e.figures, err
}

func violation(c *Crash, trace *Trace, err error) error {
	v := &Violation{Crash: c.String(), Image: bytes.Clone(c.Image), Trace: trace, Err: err}
	if c.First != nil {
		v.Crash += "\nin recovery from " + c.First.String()
		v.First = bytes.Clone(c.First.Image)
	}
	return v
}
