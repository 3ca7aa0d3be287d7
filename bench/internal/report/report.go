// Package report does the sums and the tables of the benchmarks.
package report

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Sample is one figure, measured several times.
type Sample []float64

// Median of the sample, 0 of none.
func (s Sample) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Spread is how far the values lie apart: (max-min)/median.
func (s Sample) Spread() float64 {
	if len(s) == 0 || s.Median() == 0 {
		return 0
	}
	return (slices.Max(s) - slices.Min(s)) / s.Median()
}

// Ratio of two samples measured in turn: the median of the ratios round by round,
// which what slows a whole round down does not change.
func Ratio(a, b Sample) float64 {
	var ratios Sample
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return ratios.Median()
}

// Table prints Markdown.
type Table struct {
	Head []string
	Rows [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Print prints the table, the first column to the left, the others to the right.
func (t *Table) Print(w io.Writer) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(t.Head, " | "))
	fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(t.Head)-1))
	for _, row := range t.Rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintln(w)
}

// Number prints a figure with three digits that count, or "-" for none.
func Number(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Times prints a ratio.
func Times(x float64) string {
	if x == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f x", x)
}

// Goal is one judged bound.
type Goal struct {
	What, Want, Got string
	Known, Reached  bool
}

// AtLeast judges got >= want, a ratio; 0 is not measured.
func AtLeast(what string, got, want float64) Goal {
	return Goal{what, fmt.Sprintf(">= %.2f x", want), Times(got), got != 0, got >= want}
}

// AtMost judges got <= want, a ratio; 0 is not measured.
func AtMost(what string, got, want float64) Goal {
	return Goal{what, fmt.Sprintf("<= %.2f x", want), Times(got), got != 0, got <= want}
}

// PrintGoals prints the goals and returns how many were missed.
func PrintGoals(w io.Writer, goals []Goal) (missed int) {
	t := Table{Head: []string{"goal", "wanted", "measured", "verdict"}}
	for _, g := range goals {
		verdict := "reached"
		switch {
		case !g.Known:
			verdict, g.Got = "not measured", "-"
		case !g.Reached:
			verdict = "MISSED"
			missed++
		}
		t.Add(g.What, g.Want, g.Got, verdict)
	}
	t.Print(w)
	return missed
}

// Machine says on what a run was made.
func Machine() string {
	model, _ := os.ReadFile("/proc/cpuinfo")
	name := "unknown processor"
	for line := range strings.Lines(string(model)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			name = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
			break
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kernel, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
	load, _ := os.ReadFile("/proc/loadavg")
	busy, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%s, %d processors, %s %s, %s, load average at the start %s",
		name, runtime.NumCPU(), runtime.GOOS, kernel, runtime.Version(), busy)
}
