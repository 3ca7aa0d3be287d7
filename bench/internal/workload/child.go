package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/stores"
)

// childVariable makes a process of this program a child.
const childVariable = "PMEMTABLE_BENCH_CHILD"

// A request has one of its fields set.
type request struct {
	Open  *stores.Config `json:",omitempty"` // in place of what is open
	Probe int            // of Open: a key to get at once, -1 for none
	Shape data.Shape     // of Probe
	Run   *Work          `json:",omitempty"`
	Size  bool           `json:",omitempty"` // memory and files
	Close bool           `json:",omitempty"`
	Floor *FloorWork     `json:",omitempty"`
}

type reply struct {
	Result
	Err string `json:",omitempty"`
}

// FloorWork asks the child for a floor on a mapping of its own.
type FloorWork struct {
	Dir     string
	Entries int
	Ops     int
	ByCPU   bool
}

// FloorFunc measures a floor: package floor's Measure, given by the program that
// has use for it.
var FloorFunc func(FloorWork) (map[string]float64, error)

// ServeIfChild turns this process into a child, for good, if it was started as
// one. It must come first in main, and in TestMain.
func ServeIfChild() {
	if os.Getenv(childVariable) == "" {
		return
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var c served
	for {
		var q request
		if err := in.Decode(&q); err != nil {
			os.Exit(0) // the parent is gone
		}
		r, err := c.serve(q)
		answer := reply{Result: r}
		if err != nil {
			answer.Err = err.Error()
		}
		if out.Encode(answer) != nil {
			os.Exit(1)
		}
	}
}

// served is what a child has open.
type served struct {
	store stores.Store
	dir   string
}

func (c *served) serve(q request) (Result, error) {
	switch {
	case q.Open != nil:
		return c.open(q)
	case q.Floor != nil:
		figures, err := FloorFunc(*q.Floor)
		return Result{Figures: figures}, err
	case q.Close:
		return Result{}, c.close()
	case q.Run != nil && q.Run.Kind == GC:
		return forcedGC(), nil
	case c.store == nil:
		return Result{}, errors.New("no store is open")
	case q.Size:
		return c.size()
	}
	r, err := Run(c.store, *q.Run, c.dir)
	if f, ok := c.store.(stores.Figures); ok && err == nil {
		r.Figures = f.Figures()
	}
	return r, err
}

func (c *served) close() error {
	if c.store == nil {
		return nil
	}
	err := c.store.Close()
	c.store = nil
	return err
}

// open opens a store and, if asked, gets a first key: the time of both.
func (c *served) open(q request) (Result, error) {
	if err := c.close(); err != nil {
		return Result{}, err
	}
	began := time.Now()
	s, err := stores.Open(*q.Open)
	if err != nil {
		return Result{}, err
	}
	c.store, c.dir = s, q.Open.Dir
	if q.Probe >= 0 {
		var buf [data.MaxKeyBytes]byte
		_, err = s.Get(nil, q.Shape.Key(&buf, q.Probe))
	}
	return Result{Ops: 1, Elapsed: time.Since(began)}, err
}

// size is memory and disk of the store at this moment.
func (c *served) size() (Result, error) {
	all, anonymous := residentBytes()
	disk, err := diskBytes(c.dir)
	return Result{Figures: map[string]float64{"rss": all, "anonymous": anonymous, "disk": float64(disk)}}, err
}

func diskBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += blocksOf(info)
		}
		return err
	})
	return sum, err
}

// Child is a process that holds one store.
type Child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// Start starts a child of this program. It ends with its parent.
func Start() (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Child{cmd, in, json.NewEncoder(in), json.NewDecoder(out)}, nil
}

func (c *Child) ask(q request) (Result, error) {
	if err := c.enc.Encode(q); err != nil {
		return Result{}, err
	}
	var r reply
	if err := c.dec.Decode(&r); err != nil {
		return Result{}, fmt.Errorf("the child: %w", err)
	}
	if r.Err != "" {
		return Result{}, errors.New(r.Err)
	}
	return r.Result, nil
}

// Open opens a store in the child, in place of one that may be open.
func (c *Child) Open(config stores.Config) error {
	_, err := c.ask(request{Open: &config, Probe: -1})
	return err
}

// OpenAndGet opens a store and gets a key: Elapsed is the time of both.
func (c *Child) OpenAndGet(config stores.Config, shape data.Shape, key int) (Result, error) {
	return c.ask(request{Open: &config, Probe: key, Shape: shape})
}

// Run runs a workload.
func (c *Child) Run(w Work) (Result, error) { return c.ask(request{Run: &w}) }

// Size tells bytes: rss, anonymous (of it), disk.
func (c *Child) Size() (map[string]float64, error) {
	r, err := c.ask(request{Size: true})
	return r.Figures, err
}

// Floor measures a floor in the child.
func (c *Child) Floor(w FloorWork) (map[string]float64, error) {
	r, err := c.ask(request{Floor: &w})
	return r.Figures, err
}

// CloseStore closes the store.
func (c *Child) CloseStore() error {
	_, err := c.ask(request{Close: true})
	return err
}

// Stop ends the child after its store is closed.
func (c *Child) Stop() error {
	err := c.CloseStore()
	return errors.Join(err, c.in.Close(), c.cmd.Wait())
}

// Kill ends the child as kill -9 does.
func (c *Child) Kill() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = c.cmd.Wait()
	return nil
}
