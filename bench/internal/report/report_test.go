package report

import (
	"strings"
	"testing"
)

func TestSums(t *testing.T) {
	s := Sample{4, 1, 2, 3}
	if s.Median() != 2.5 || s.Spread() != 3/2.5 {
		t.Errorf("median %v, spread %v", s.Median(), s.Spread())
	}
	// A round in which everything took ten times as long changes no ratio.
	if r := Ratio(Sample{2, 20, 2}, Sample{1, 10, 1}); r != 2 {
		t.Errorf("ratio %v", r)
	}
	if (Sample{}).Median() != 0 || Ratio(nil, s) != 0 {
		t.Error("nothing measured is 0")
	}
	if got := Number(1234567); got != "1,234,567" {
		t.Error(got)
	}
}

func TestGoals(t *testing.T) {
	var out strings.Builder
	missed := PrintGoals(&out, []Goal{AtLeast("a", 2, 1), AtLeast("b", 1, 2), AtMost("c", 0, 1), AtMost("d", 1, 2)})
	if missed != 1 || strings.Count(out.String(), "reached") != 2 || !strings.Contains(out.String(), "not measured") {
		t.Errorf("%d missed\n%s", missed, out.String())
	}
}
