package main

import (
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// curve is one line of a plot.
type curve struct {
	label  string
	kind   string
	value  func(row) float64
	color  color.Color
	dashed bool
}

var (
	blue = color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}
	red  = color.RGBA{R: 0xd6, G: 0x27, B: 0x28, A: 0xff}
)

// drawTo writes two plots beside each other as SVG.
func drawTo(path string, rows []row) error {
	closed := func(r row) float64 { return r.closed.OpenMs }
	killed := func(r row) float64 { return r.killed.OpenMs }
	memory := func(r row) float64 { return r.closed.HeapMiB }
	opening, err := panel("Opening, with a first Get", "ms", rows, []curve{
		{"Go map, killed", kindMap, killed, red, true},
		{"Go map, closed", kindMap, closed, red, false},
		{"pmemtable, killed", kindTable, killed, blue, true},
		{"pmemtable, closed", kindTable, closed, blue, false},
	})
	if err != nil {
		return err
	}
	heap, err := panel("Memory that the collector manages", "MiB", rows, []curve{
		{"Go map", kindMap, memory, red, false},
		{"pmemtable", kindTable, memory, blue, false},
	})
	if err != nil {
		return err
	}
	canvas := vgsvg.New(24*vg.Centimeter, 11*vg.Centimeter)
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Centimeter, PadTop: 5 * vg.Millimeter, PadBottom: 5 * vg.Millimeter,
		PadLeft: 5 * vg.Millimeter, PadRight: 8 * vg.Millimeter}
	canvases := plot.Align([][]*plot.Plot{{opening, heap}}, tiles, draw.New(canvas))
	opening.Draw(canvases[0][0])
	heap.Draw(canvases[0][1])
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// panel makes a plot over the number of keys, both axes logarithmic.
func panel(title, unit string, rows []row, curves []curve) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "keys", unit
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Scale = plot.LogScale{}
		axis.Tick.Marker = plot.LogTicks{Prec: -1}
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, c := range curves {
		var points plotter.XYs
		for _, r := range rows {
			if r.kind == c.kind {
				points = append(points, plotter.XY{X: float64(r.keys), Y: c.value(r)})
			}
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color, line.Width = c.color, c.color, vg.Points(1.5)
		dots.Shape = draw.CircleGlyph{}
		if c.dashed {
			line.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		p.Add(line, dots)
		p.Legend.Add(c.label, line, dots)
	}
	return p, nil
}
