package main

import (
	"math"
	"strconv"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"

	"pmemtable/bench/internal/report"
)

// curve is one line of a plot.
type curve struct {
	label  string
	kind   string
	value  func(row) float64
	color  drawing.Color
	dashed bool
}

// plot draws the time to open and the memory as SVG files in dir.
func plot(dir string, rows []row) error {
	red, blue := chart.ColorRed, chart.ColorBlue
	closed := func(r row) float64 { return r.closed.OpenMs }
	killed := func(r row) float64 { return r.killed.OpenMs }
	memory := func(r row) float64 { return r.closed.HeapMiB }
	charts := map[string]report.Chart{
		"keydirs-open.svg": overKeys("Opening, with a first Get", "ms", rows, []curve{
			{"Go map, killed", kindMap, killed, red, true},
			{"Go map, closed", kindMap, closed, red, false},
			{"pmemtable, killed", kindTable, killed, blue, true},
			{"pmemtable, closed", kindTable, closed, blue, false},
		}),
		"keydirs-heap.svg": overKeys("Memory that the collector manages", "MiB", rows, []curve{
			{"Go map", kindMap, memory, red, false},
			{"pmemtable", kindTable, memory, blue, false},
		}),
	}
	return report.Draw(dir, charts)
}

// overKeys makes a chart over the number of keys. Both axes are logarithmic: they are of
// logarithms, with ticks at the powers of ten.
func overKeys(title, unit string, rows []row, curves []curve) *chart.Chart {
	c := &chart.Chart{
		Title: title, Height: 380, Width: 560,
		TitleStyle: chart.Style{FontSize: 12},
		Background: chart.Style{Padding: chart.Box{Top: 60, Left: 130, Right: 20, Bottom: 20}},
		XAxis:      chart.XAxis{Name: "keys"}, YAxis: chart.YAxis{Name: unit},
	}
	var all, keys report.Sample
	for _, v := range curves {
		var x, y report.Sample
		for _, r := range rows {
			if r.kind == v.kind {
				x = append(x, math.Log10(float64(r.keys)))
				y = append(y, math.Log10(v.value(r)))
			}
		}
		style := chart.Style{StrokeColor: v.color, StrokeWidth: 2, DotColor: v.color, DotWidth: 3}
		if v.dashed {
			style.StrokeDashArray = []float64{6, 4}
		}
		c.Series = append(c.Series, chart.ContinuousSeries{Name: v.label, Style: style, XValues: x, YValues: y})
		keys, all = append(keys, x...), append(all, y...)
	}
	c.XAxis.Ticks, c.YAxis.Ticks = powersOfTen(keys), powersOfTen(all)
	c.Elements = []chart.Renderable{chart.LegendLeft(c)}
	return c
}

// powersOfTen are ticks around these logarithms.
func powersOfTen(logs report.Sample) (ticks []chart.Tick) {
	low, high := logs[0], logs[0]
	for _, x := range logs {
		low, high = min(low, x), max(high, x)
	}
	for x := math.Floor(low); x <= math.Ceil(high); x++ {
		ticks = append(ticks, chart.Tick{Value: x, Label: strconv.FormatFloat(math.Pow(10, x), 'f', -1, 64)})
	}
	return ticks
}
