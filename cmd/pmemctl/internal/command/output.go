package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/dustin/go-humanize"

	"pmemtable/cmd/pmemctl/internal/screen"
)

// output is a command's stdout. Text from a table goes through show; only
// what we write ourselves may go straight to the Writer.
type output struct {
	*bufio.Writer
	escape bool // stdout is a terminal, and the user did not ask for raw bytes
}

func (a *App) stdout(raw bool) *output {
	return &output{bufio.NewWriterSize(a.Out, 64<<10), !raw && a.IsTerminal(a.Out)}
}

// show writes foreign bytes in the form that stdout can take.
func (o *output) show(text []byte) {
	if o.escape {
		text = screen.AppendEscaped(nil, text)
	}
	_, _ = o.Write(text) // a bufio.Writer keeps the error for Flush
}

// line writes one `label  text` line of a report.
func (o *output) line(label, format string, args ...any) {
	fmt.Fprintf(o, "%-13s", label)
	o.show(fmt.Appendf(nil, format, args...))
	_ = o.WriteByte('\n')
}

// quotedLine is line for text that holds no foreign bytes but by %q.
func (o *output) quotedLine(label, format string, args ...any) {
	fmt.Fprintf(o, "%-13s"+format+"\n", append([]any{label}, args...)...)
}

// schemaVersion counts changes of the --json documents that a program could
// stumble over; new fields are not among them.
const schemaVersion = 1

// document writes a --json answer.
func (o *output) document(content any) error {
	o.encode(content, "  ", "\n")
	return o.Flush()
}

// inline writes a part of a document in the line that has begun.
func (o *output) inline(content any) { o.encode(content, "", "") }

// encode writes what --json prints. All of it can be said in JSON.
func (o *output) encode(content any, indent, end string) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(content); err != nil {
		panic(err)
	}
	shown := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	if o.escape {
		shown = screen.AppendJSONEscaped(nil, shown)
	}
	_, _ = o.Write(shown)
	_, _ = o.WriteString(end)
}

func bytesText(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

func countText[N int | int64 | uint64](n N) string { return humanize.Comma(int64(n)) }
