// Example serves the metrics of a table that it writes to.
//
//	go run ./example            then: curl http://127.0.0.1:9464/metrics
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	pmemprom "pmemtable/contrib/prometheus"
	"pmemtable/table"
)

func main() {
	file := flag.String("file", filepath.Join(os.TempDir(), "pmemprom-example.pmt"), "the table, created if there is none")
	listen := flag.String("listen", "127.0.0.1:9464", "where /metrics is served")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *file, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, file, listen string) error {
	tab, err := table.Open(file, &table.Options{Durability: table.Interval(time.Second)})
	if err != nil {
		return err
	}
	defer tab.Close()
	server := http.Server{Addr: listen, Handler: handler(tab)}
	go func() {
		write(ctx, tab)
		_ = server.Shutdown(context.Background())
	}()
	log.Printf("http://%s/metrics", listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler serves /metrics.
func handler(tab *table.Table) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(pmemprom.NewCollector(tab, "example"))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// write keeps the table busy until ctx ends.
func write(ctx context.Context, tab *table.Table) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range 100 {
			key := fmt.Appendf(nil, "key %d", rand.IntN(100_000))
			if err := tab.Put(key, key); err != nil {
				log.Print(err)
				return
			}
		}
	}
}
