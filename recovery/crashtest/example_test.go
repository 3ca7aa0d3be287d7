package crashtest_test

import (
	"fmt"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// counter is a number on persistent memory, at offset 0.
type counter struct{ medium crashtest.Medium }

// add adds one, durably. But it writes back another line than the one it changed.
func (c counter) add() {
	c.medium.Store(0, c.medium.Load(0)+1)
	c.medium.Persist(pmem.Range{Offset: 64, Bytes: 8}) // should be Offset: 0
}

// No test that only runs the counter can find that its add flushes the wrong line.
// The first crash does.
func Example() {
	suite := crashtest.Suite{
		Image: make([]byte, 128),
		Model: crashtest.X86,
		Workload: crashtest.WorkloadFunc(func(t *crashtest.Tracer) ([]byte, error) {
			memory := crashtest.NewMemory(t.Image(), t)
			for op := range 3 {
				t.Begin(op)
				counter{memory}.add()
				t.Ack(op)
			}
			return memory.Image(), nil
		}),
		Oracle: crashtest.OracleFunc(func(c *crashtest.Crash) error {
			got := int(crashtest.NewMemory(c.Image, nil).Load(0))
			if least := len(c.Acked); got < least || got > least+len(c.Pending) {
				return fmt.Errorf("the counter is %d after %d acknowledged additions", got, least)
			}
			return nil
		}),
	}
	_, err := suite.Run()
	fmt.Println(err)
	// Output:
	// the counter is 0 after 1 acknowledged additions
	// x86: crash after event 5 of 15, acknowledged [0], pending [], the last one: acknowledge 0
	//   of the stores to 0x0 after the last guarantee: 0 of 1
}

// Lint looks at one run, without crashing it, for flushes too few and too many.
func ExampleTrace_Lint() {
	t := crashtest.NewTracer(make([]byte, 128))
	memory := crashtest.NewMemory(t.Image(), t)
	t.Begin(0)
	counter{memory}.add()
	t.Ack(0)
	for _, f := range t.Trace().Lint(nil) {
		fmt.Println(f.What)
	}
	// Output:
	// the write-back of 8 bytes at 0x40 captures nothing new
	// the drain has nothing to wait for
	// operation 0 is acknowledged, but its store at 0x0 (event 1 ) is not durable
}

// All that a crash of one run may leave: two lines have no order on X86.
func ExampleTrace_Crashes() {
	t := crashtest.NewTracer(make([]byte, 128))
	memory := crashtest.NewMemory(t.Image(), t)
	memory.Store(0, 1)
	memory.Store(64, 2)
	memory.Persist(pmem.Range{Offset: 0, Bytes: 128})
	_, err := t.Trace().Crashes(crashtest.X86, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
		fmt.Println(c.Image[0], c.Image[64])
		return nil
	})
	fmt.Println(err)
	// Unordered output:
	// 0 0
	// 0 2
	// 1 0
	// 1 2
	// <nil>
}

// Count tells what an operation costs.
func ExampleTrace_Count() {
	t := crashtest.NewTracer(make([]byte, 128))
	memory := crashtest.NewMemory(t.Image(), t)
	t.Begin(0)
	counter{memory}.add()
	t.Ack(0)
	fmt.Printf("%+v\n", t.Trace().Count(0))
	// Output: {Stores:1 WriteBacks:1 Drains:1 Syncs:0}
}
