package crashtest

import "fmt"

// Figures count what was done.
type Figures struct {
	Traces     int
	Points     int // moments at which the log was crashed
	Exhaustive int // of them with every image, or one like it as far as anybody reads
	Images     int // judged
	Known      int // passed over: judged before
	Sampled    int // of Images, drawn at random
	Deep       int // of Images, those of a crash inside recovery
	Recoveries int // that were crashed
}

// Add adds g to f.
func (f *Figures) Add(g Figures) {
	f.Traces += g.Traces
	f.Points += g.Points
	f.Exhaustive += g.Exhaustive
	f.Images += g.Images
	f.Known += g.Known
	f.Sampled += g.Sampled
	f.Deep += g.Deep
	f.Recoveries += g.Recoveries
}

// String says it in a line.
func (f Figures) String() string {
	return fmt.Sprintf("%d images (%d sampled, %d of crashes in %d recoveries, %d more known) at %d crash points (%d exhaustive) of %d traces",
		f.Images, f.Sampled, f.Deep, f.Recoveries, f.Known, f.Points, f.Exhaustive, f.Traces)
}
