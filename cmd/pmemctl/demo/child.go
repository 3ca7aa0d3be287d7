package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const neverKill = -1

// write runs a child until killAt writes are acknowledged in all and kills it
// then; with neverKill it lets the child finish.
func (d *demo) write(ctx context.Context, killAt int) error {
	args := append(d.o.Self[1:len(d.o.Self):len(d.o.Self)],
		d.path, d.o.Data, strconv.Itoa(d.from), strconv.Itoa(d.o.Writers))
	child := exec.CommandContext(ctx, d.o.Self[0], args...)
	var complaint bytes.Buffer
	child.Stderr = &complaint
	credits, err := child.StdinPipe()
	if err != nil {
		return err
	}
	acks, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	killed, readErr := d.collect(acks, credits, killAt, child.Process.Kill)
	waitErr := child.Wait()
	said := strings.TrimSpace(complaint.String())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case said != "":
		return fmt.Errorf("the writing process: %s", said)
	case readErr != nil:
		return readErr
	case killAt == neverKill:
		return waitErr
	case !killed || waitErr == nil:
		return errors.New("the writing process ended before it could be killed")
	}
	return nil
}

// collect reads acknowledgements until there are no more. What is in the pipe
// when the child dies counts: it was acknowledged.
func (d *demo) collect(acks io.Reader, credits io.Writer, killAt int, kill func() error) (killed bool, err error) {
	buffer := make([]byte, 0, 4096)
	for {
		n, err := acks.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		whole := len(buffer) / ackBytes
		for i := range whole {
			if err := d.acknowledge(binary.LittleEndian.Uint32(buffer[i*ackBytes:])); err != nil {
				return killed, errors.Join(err, kill())
			}
		}
		buffer = append(buffer[:0], buffer[whole*ackBytes:]...)
		switch {
		case err == io.EOF:
			return killed, nil
		case err != nil:
			return killed, errors.Join(err, kill())
		case killed:
			continue
		}
		_, _ = credits.Write(make([]byte, whole)) // if the child is gone, the next read tells
		if killAt != neverKill && d.count >= killAt {
			killed = true
			d.untilItIsBusy()
			if err := kill(); err != nil {
				return killed, fmt.Errorf("killing the writing process: %w", err)
			}
		}
		d.show.progress(d.count, len(d.entries))
	}
}

// untilItIsBusy lets the child take up the work that it has just got credit
// for: killed at once, it would most often be caught waiting for us.
func (d *demo) untilItIsBusy() {
	time.Sleep(time.Duration(rand.IntN(2*window(d.entries)+1)) * time.Microsecond)
}

func (d *demo) acknowledge(i uint32) error {
	if int(i) >= len(d.entries) {
		return fmt.Errorf("the writing process acknowledges entry %d of %d", i, len(d.entries))
	}
	if !d.acknowledged[i] {
		d.acknowledged[i] = true
		d.count++
	}
	for d.from < len(d.entries) && d.acknowledged[d.from] {
		d.from++
	}
	return nil
}
