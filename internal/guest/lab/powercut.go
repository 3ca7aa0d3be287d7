//go:build linux

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"pmemtable/internal/guest/machine"
	"pmemtable/internal/guest/observer"
	"pmemtable/internal/guest/session"
)

// writers is how many write each table at the same time.
const writers = 3

// powercut kills machines that write, and verifies on the same disk.
func powercut(args []string) error {
	flags := flag.NewFlagSet("powercut", flag.ExitOnError)
	cuts := flags.Int("cuts", 20, "machines to kill")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano())&0xffffffff, "of the writes and of the moments")
	lie := flags.Bool("lie", false, "let the guest acknowledge what is not durable: the test must fail")
	verbose := flags.Bool("v", false, "print what each boot found")
	_ = flags.Parse(args)
	b, err := newBench()
	if err != nil {
		return err
	}
	fmt.Printf("powercut: %d cuts, seed %d\n", *cuts, *seed)
	initramfs, err := b.initramfs("initramfs", diskModules, nil)
	if err != nil {
		return err
	}
	if err := makeDisk(b.path("disk"), 256<<20); err != nil {
		return err
	}
	cfg := machine.Config{Kernel: b.kernel, Initramfs: initramfs, Dir: b.dir, Mode: "session",
		// What the guest has handed over is in the host's page cache, which a kill of
		// QEMU leaves alone: the host's disk may sleep.
		Args: []string{"-drive", "file=" + b.path("disk") + ",format=raw,if=virtio,cache=unsafe"}}
	o := observer.New(session.Config{Dir: "/data", Seed: *seed, Writers: writers, Lie: *lie}, false, output(*verbose))
	return cutPower(o, cfg, *cuts, *seed)
}

// cutPower boots, kills, and boots again, until a last machine finds what is there
// and closes its tables in order.
func cutPower(o *observer.Observer, cfg machine.Config, cuts int, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range cuts + 1 {
		plan := observer.Plan{After: 100*time.Millisecond + time.Duration(random.Int64N(int64(2500*time.Millisecond)))}
		if i > 0 && random.IntN(6) == 0 { // while it recovers
			plan = observer.Plan{InOpening: true, After: time.Duration(random.Int64N(int64(400 * time.Millisecond)))}
		}
		if i == cuts {
			plan = observer.Plan{Stop: true, After: 300 * time.Millisecond}
		}
		if err := bootOnce(o, cfg, plan); err != nil { // a table that does not open, say
			o.Result.Problems = append(o.Result.Problems, err.Error())
			break
		}
	}
	return sumUp(o.Result)
}

// bootOnce follows one machine from boot to its end.
func bootOnce(o *observer.Observer, cfg machine.Config, plan observer.Plan) error {
	began := time.Now()
	before := o.Result.Acknowledged
	m, err := machine.Start(cfg)
	if err != nil {
		return err
	}
	if err := o.Session(m, plan); err != nil {
		return fmt.Errorf("%w\nconsole: %s", err, m.Console())
	}
	how := fmt.Sprintf("killed %v after it began to write", plan.After.Round(time.Millisecond))
	switch {
	case plan.Stop:
		how = "closed in order"
	case plan.InOpening:
		how = fmt.Sprintf("killed %v after it began to open", plan.After.Round(time.Millisecond))
	}
	fmt.Printf("boot %d: %s; %d writes acknowledged; lost so far %d; %.1f s\n",
		o.Result.Sessions, how, o.Result.Acknowledged-before, o.Result.Lost, time.Since(began).Seconds())
	return nil
}

// sumUp prints the last line, and makes it an error if something was wrong.
func sumUp(r observer.Result) error {
	for i, p := range r.Problems {
		if i < 20 {
			fmt.Println("problem:", p)
		}
	}
	fmt.Printf("not owed and not there: %d writes of Interval and OnSync; Interval went back by %v at most\n",
		r.UnownedAndMissing, r.MissingForAtMost.Round(time.Millisecond))
	fmt.Printf("%d cuts, %d acknowledged writes, %d lost writes, %d problems\n", r.Kills, r.Acknowledged, r.Lost, len(r.Problems))
	if r.Lost > 0 || len(r.Problems) > 0 {
		return errVerdict
	}
	return nil
}

// makeDisk makes a disk with an empty ext4 on it.
func makeDisk(path string, sizeBytes int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := f.Truncate(sizeBytes); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return command(".", "mkfs.ext4", "-q", "-F", "-b", "4096", path)
}

// output is where details go.
func output(verbose bool) *os.File {
	if verbose {
		return os.Stdout
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return os.Stderr
	}
	return null
}
