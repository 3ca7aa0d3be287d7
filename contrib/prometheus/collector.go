// Package pmemprom exports what a pmemtable does to Prometheus: operations by kind,
// how long checkpoints and drains take, space, conflicts, recovery.
//
//	registry.MustRegister(pmemprom.NewCollector(tab, "sessions"))
package pmemprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"pmemtable/table"
)

// Collector is a prometheus.Collector of one table. Each collection calls Stats once,
// which costs microseconds and waits for no writer longer than for a stripe's lock.
// Reads are not counted: they write no memory that another processor reads.
type Collector struct {
	stats   func() table.Stats
	metrics []metric
}

// metric is one family of the exposition.
type metric struct {
	desc    *prometheus.Desc
	collect func(desc *prometheus.Desc, s *table.Stats, ch chan<- prometheus.Metric)
}

// NewCollector returns a collector of t whose metrics have the label table="name", so
// that a registry can hold those of several tables. The collector keeps t reachable;
// unregister it when the table is closed.
func NewCollector(t *table.Table, name string) *Collector { return newCollector(t.Stats, name) }

func newCollector(stats func() table.Stats, name string) *Collector {
	f := families{labels: prometheus.Labels{"table": name}}
	f.operations()
	f.commits()
	f.space()
	f.recovery()
	return &Collector{stats: stats, metrics: f.metrics}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, m := range c.metrics {
		m.collect(m.desc, &s, ch)
	}
}

// families lists the metrics.
type families struct {
	labels  prometheus.Labels
	metrics []metric
}

func (f *families) add(name, help string, labels []string, collect func(*prometheus.Desc, *table.Stats, chan<- prometheus.Metric)) {
	desc := prometheus.NewDesc("pmemtable_"+name, help, labels, f.labels)
	f.metrics = append(f.metrics, metric{desc, collect})
}

// value is a metric of one number, which may not be known.
func (f *families) value(kind prometheus.ValueType, name, help string, of func(s *table.Stats) (float64, bool)) {
	f.add(name, help, nil, func(desc *prometheus.Desc, s *table.Stats, ch chan<- prometheus.Metric) {
		if v, known := of(s); known {
			ch <- prometheus.MustNewConstMetric(desc, kind, v)
		}
	})
}

func (f *families) counter(name, help string, of func(s *table.Stats) uint64) {
	f.value(prometheus.CounterValue, name, help, func(s *table.Stats) (float64, bool) { return float64(of(s)), true })
}

func (f *families) gauge(name, help string, of func(s *table.Stats) float64) {
	f.value(prometheus.GaugeValue, name, help, func(s *table.Stats) (float64, bool) { return of(s), true })
}

// kinds is a counter with a label.
func (f *families) kinds(name, help string, of func(s *table.Stats) map[string]uint64) {
	f.add(name, help, []string{"kind"}, func(desc *prometheus.Desc, s *table.Stats, ch chan<- prometheus.Metric) {
		for kind, n := range of(s) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), kind)
		}
	})
}

// latencies is a histogram with those of the table's buckets whose bounds matter.
func (f *families) latencies(name, help string, first, last int, of func(s *table.Stats) *table.Latencies) {
	f.add(name, help, nil, func(desc *prometheus.Desc, s *table.Stats, ch chan<- prometheus.Metric) {
		l := of(s)
		buckets, sum := make(map[float64]uint64), uint64(0)
		for i, n := range l.Buckets {
			if sum += n; i >= first && i <= last {
				buckets[table.LatencyBound(i).Seconds()] = sum
			}
		}
		ch <- prometheus.MustNewConstHistogram(desc, l.Count, l.Total.Seconds(), buckets)
	})
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
