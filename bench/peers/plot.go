package main

import (
	"fmt"
	"math"

	"github.com/wcharczuk/go-chart/v2"

	"pmemtable/bench/internal/report"
)

// plot draws the results as SVG files in dir.
func (r *results) plot(dir string) error {
	charts := map[string]report.Chart{
		"floor.svg": r.floorChart(),
	}
	for _, goroutines := range r.o.goroutines {
		charts[fmt.Sprintf("throughput-%d.svg", goroutines)] = r.throughputChart(goroutines)
	}
	if len(r.o.goroutines) > 1 {
		charts["goroutines-get.svg"] = r.goroutinesChart(hit)
		charts["goroutines-put.svg"] = r.goroutinesChart(over)
		charts["goroutines-mix.svg"] = r.goroutinesChart(half)
	}
	if r.hiccups != nil && len(r.hiccups.Windows) > 1 {
		charts["latency.svg"] = r.latencyChart()
		charts["growth.svg"] = r.growthChart()
	}
	return report.Draw(dir, charts)
}

// bars makes a chart of bars from zero.
func bars(title string, values []chart.Value) report.Chart {
	highest := 1.0
	for _, v := range values {
		highest = max(highest, v.Value)
	}
	return chart.BarChart{
		Title: title, Height: 420, Width: 150*len(values) + 120, BarWidth: 90, BarSpacing: 60,
		TitleStyle: chart.Style{FontSize: 14},
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}},
		YAxis:      chart.YAxis{Range: &chart.ContinuousRange{Min: 0, Max: highest * 1.05}},
		Bars:       values,
	}
}

// bar is one of the i-th store's colour.
func bar(label string, value float64, i int) chart.Value {
	colour := chart.GetDefaultColor(i)
	return chart.Value{Label: label, Value: value, Style: chart.Style{FillColor: colour, StrokeColor: colour}}
}

// throughputChart shows millions of gets and overwrites a second.
func (r *results) throughputChart(goroutines int) report.Chart {
	var values []chart.Value
	for _, name := range []string{hit, over} {
		for i, c := range r.all {
			if ns := c.samples[cell(name, goroutines)].Median(); ns > 0 && !c.persistentPeer() {
				values = append(values, bar(name+": "+c.label, 1000/ns, i))
			}
		}
	}
	return bars("Millions of operations a second, goroutines: "+fmt.Sprint(goroutines), values)
}

// goroutinesChart shows millions of operations a second by the number of goroutines,
// which the axis has as its log2.
func (r *results) goroutinesChart(name string) report.Chart {
	c := chart.Chart{
		Title: name + ": millions of operations a second", Height: 420, Width: 800, XAxis: axis("goroutines"),
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}},
	}
	highest := 0.0
	for i, store := range r.all {
		var x, y report.Sample
		for _, goroutines := range r.o.goroutines {
			if ns := store.samples[cell(name, goroutines)].Median(); ns > 0 {
				x, y = append(x, math.Log2(float64(goroutines))), append(y, 1000/ns)
				highest = max(highest, 1000/ns)
			}
		}
		if len(x) > 1 && !store.persistentPeer() {
			c.Series = append(c.Series, chart.ContinuousSeries{Name: store.label, XValues: x, YValues: y, Style: chart.Style{StrokeColor: chart.GetDefaultColor(i)}})
		}
	}
	for _, goroutines := range r.o.goroutines {
		c.XAxis.Ticks = append(c.XAxis.Ticks, chart.Tick{Value: math.Log2(float64(goroutines)), Label: fmt.Sprint(goroutines)})
	}
	c.YAxis.Range = &chart.ContinuousRange{Min: 0, Max: highest * 1.05}
	c.Elements = []chart.Renderable{chart.Legend(&c)}
	return c
}

func (r *results) floorChart() report.Chart {
	var values []chart.Value
	for _, name := range []string{hit, miss, over, load} {
		for i, label := range []string{checked, trusted} {
			if ratio := r.ratioToFloor(r.find(label), name); ratio > 0 {
				values = append(values, bar(name+": "+label, ratio, i))
			}
		}
	}
	return bars("Ratio to the floor", values)
}

func axis(name string) chart.XAxis { return chart.XAxis{Name: name} }

// latencyChart shows the percentiles of Put through growth, as log10 of µs by
// log10 of 1/(1-q).
func (r *results) latencyChart() report.Chart {
	var x, y report.Sample
	var ticks []chart.Tick
	for _, p := range r.hiccups.Curve {
		if p[0] < 50 || p[0] >= 100 || p[1] <= 0 { // the axis begins at the median
			continue
		}
		at := -math.Log10(1 - p[0]/100)
		x, y = append(x, at), append(y, math.Log10(p[1]/1000))
		if p[0] == 50 || p[0] >= 90 && math.Abs(at-math.Round(at)) < 1e-6 {
			ticks = append(ticks, chart.Tick{Value: at, Label: fmt.Sprintf("%g %%", p[0])})
		}
	}
	c := chart.Chart{
		Title: "Put through growth: latency by percentile", Height: 420, Width: 800, XAxis: axis("percentile"),
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}},
		YAxis:      chart.YAxis{Name: "µs", ValueFormatter: powerOfTen},
		Series:     []chart.Series{chart.ContinuousSeries{XValues: x, YValues: y}},
	}
	c.XAxis.Ticks = ticks
	return c
}

// growthChart shows median and worst Put of each piece of the load.
func (r *results) growthChart() report.Chart {
	var at, median, worst report.Sample
	for _, w := range r.hiccups.Windows {
		at = append(at, w.AtSeconds)
		median = append(median, math.Log10(w.MedianNs/1000))
		worst = append(worst, math.Log10(w.MaxNs/1000))
	}
	c := chart.Chart{
		Title: "Put through growth: median and worst of each 20 ms", Height: 420, Width: 800, XAxis: axis("seconds"),
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}},
		YAxis:      chart.YAxis{Name: "µs", ValueFormatter: powerOfTen},
		Series: []chart.Series{
			chart.ContinuousSeries{Name: "median", XValues: at, YValues: median},
			chart.ContinuousSeries{Name: "worst", XValues: at, YValues: worst},
		},
	}
	c.Elements = []chart.Renderable{chart.Legend(&c)}
	return c
}

// powerOfTen labels an axis of logarithms.
func powerOfTen(v any) string {
	x, _ := v.(float64)
	return fmt.Sprintf("%.3g", math.Pow(10, x))
}
