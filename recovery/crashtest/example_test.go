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
