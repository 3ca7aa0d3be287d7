package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/wcharczuk/go-chart/v2"
)

// Chart is what go-chart draws.
type Chart interface {
	Render(chart.RendererProvider, io.Writer) error
}

// Draw writes charts as SVG files to dir, by their names, and makes dir if need be.
func Draw(dir string, charts map[string]Chart) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, c := range charts {
		var b bytes.Buffer
		if err := c.Render(chart.SVG, &b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
