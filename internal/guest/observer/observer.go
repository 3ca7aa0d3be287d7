// Package observer stands outside of a machine, or a process, that it kills while
// it writes tables, keeps what that acknowledged, and verifies what the next one
// finds.
package observer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"pmemtable/internal/guest/history"
	"pmemtable/internal/guest/session"
)

// Peer is a machine or process that runs a session. After Kill, Read returns what
// had been sent before, and then io.EOF.
type Peer interface {
	io.ReadWriter
	Kill() error
}

// Plan says how a session ends.
type Plan struct {
	// InOpening: killed After this long from when it began to open the tables, or
	// else from when it began to write.
	InOpening bool
	After     time.Duration
	// Stop: told to stop instead of killed, and to close its tables.
	Stop bool
}

// Result is what the sessions so far came to.
type Result struct {
	Sessions, Kills   int
	Acknowledged      int // writes
	Verified          int // of them, by a later session
	Lost              int
	Problems          []string
	MissingForAtMost  time.Duration // over the tables of Recent
	UnownedAndMissing int           // acknowledged, not owed, not there
}

// Observer follows one set of tables through its sessions.
type Observer struct {
	Config session.Config
	Tables []*history.Table
	Result Result
	Log    io.Writer
	// Wait bounds each wait for the session.
	Wait time.Duration

	wrote  uint32 // the boot that wrote last
	verify []history.State
}

// New returns an observer of tables that are not there yet. everything makes each
// table owe everything: a kill -9 takes nothing, and neither does power loss on
// persistent memory.
func New(cfg session.Config, everything bool, log io.Writer) *Observer {
	o := &Observer{Config: cfg, Log: log, Wait: time.Minute}
	for _, s := range session.Specs {
		promise := s.Promise
		if everything {
			promise = history.All
		}
		o.Tables = append(o.Tables, history.NewTable(s.Name, cfg.Seed, promise, s.Interval, cfg.Writers))
	}
	return o
}

// errKilled: the session is over as planned.
var errKilled = errors.New("killed")

// Session follows one session to its end. An error means that it did not go as
// planned; what a table lacks is in Result.
func (o *Observer) Session(peer Peer, plan Plan) error {
	o.Config.Boot++
	o.Result.Sessions++
	lines := make(chan string, 1024)
	go readLines(peer, lines)
	err := o.follow(peer, plan, lines)
	if killErr := peer.Kill(); err == nil || errors.Is(err, errKilled) {
		err = killErr
	}
	for line := range lines { // what had been sent before the end counts
		if m, parseErr := session.Parse(line); parseErr == nil {
			err = errors.Join(err, o.take(m))
		}
	}
	if err == nil && !plan.Stop {
		o.Result.Kills++
	}
	return err
}

// readLines hands on whole lines; what a kill cut off does not count.
func readLines(r io.Reader, lines chan<- string) {
	defer close(lines)
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		lines <- strings.TrimSuffix(line, "\n")
	}
}

// follow handles the session's lines until it is to be killed, or is done.
func (o *Observer) follow(peer Peer, plan Plan, lines <-chan string) error {
	var kill <-chan time.Time
	wait := time.NewTimer(o.Wait)
	for {
		wait.Reset(o.Wait)
		select {
		case <-kill:
			if !plan.Stop {
				return errKilled
			}
			kill = nil
			if _, err := io.WriteString(peer, "stop\n"); err != nil {
				return err
			}
		case <-wait.C:
			return fmt.Errorf("session %d: silent for %v", o.Config.Boot, o.Wait)
		case line, ok := <-lines:
			if !ok {
				return fmt.Errorf("session %d ended by itself", o.Config.Boot)
			}
			m, err := session.Parse(line)
			if err != nil {
				return err
			}
			switch m.Verb {
			case "hello":
				err = send(peer, o.Config)
			case "opening":
				o.forget()
				if plan.InOpening {
					kill = time.After(plan.After)
				}
			case "ready":
				if kill == nil {
					kill = time.After(plan.After)
				}
				err = o.ready(peer)
			case "done":
				return nil
			default:
				err = o.take(m)
			}
			if err != nil {
				return err
			}
		}
	}
}

func send(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// forget drops what a session told of its tables that did not get ready.
func (o *Observer) forget() {
	o.verify = make([]history.State, len(o.Tables)*o.Config.Writers)
	for i := range o.verify {
		o.verify[i] = history.State{}
	}
}

// take handles a line that tells something of a table.
func (o *Observer) take(m session.Message) error {
	if m.Table < 0 || m.Table >= len(o.Tables) {
		return fmt.Errorf("no table %d", m.Table)
	}
	t := o.Tables[m.Table]
	switch m.Verb {
	case "error":
		return fmt.Errorf("session %d: %s", o.Config.Boot, m.Text)
	case "table":
		fmt.Fprintf(o.Log, "  %s\n", m.Text)
	case "entry":
		if m.Writer < 0 || m.Writer >= o.Config.Writers {
			return fmt.Errorf("no writer %d", m.Writer)
		}
		o.verify[m.Table*o.Config.Writers+m.Writer][m.Key] = m.Stamp
	case "ack":
		o.Result.Acknowledged++
		return history.Acknowledge(o.Tables, m.Table, m.Writer, m.Ack)
	case "sync":
		return t.Sync(m.Synced)
	}
	return nil
}

// ready verifies what the session found, and lets it write.
func (o *Observer) ready(peer Peer) error {
	var start session.Start
	for i, t := range o.Tables {
		found := o.verify[i*o.Config.Writers : (i+1)*o.Config.Writers]
		v := t.Verify(found, o.wrote)
		o.Result.Verified += v.Acknowledged
		o.Result.Lost += v.Lost
		o.Result.UnownedAndMissing += v.Acknowledged - v.Kept - v.Lost
		o.Result.Problems = append(o.Result.Problems, v.Problems...)
		if t.Promise == history.Recent {
			o.Result.MissingForAtMost = max(o.Result.MissingForAtMost, v.OldestMissing)
		}
		fmt.Fprintf(o.Log, "  %s: of %d acknowledged since, %d are there, %d lost\n", t.Name, v.Acknowledged, v.Kept, v.Lost)
		for _, p := range v.Problems {
			fmt.Fprintf(o.Log, "  PROBLEM %s\n", p)
		}
		t.Rebase(found, v.Prefix)
		start.From = append(start.From, v.Prefix)
	}
	o.wrote = o.Config.Boot
	return send(peer, start)
}
