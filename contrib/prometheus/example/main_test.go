package main

import (
	"context"
	"io"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestMetricsAreServed: a scrape shows what was written.
func TestMetricsAreServed(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	defer tab.Close()
	require.NoError(t, tab.Put([]byte("k"), []byte("v")))
	server := httptest.NewServer(handler(tab))
	defer server.Close()
	response, err := server.Client().Get(server.URL + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `pmemtable_operations_total{kind="put_new",table="example"} 1`)
}

// TestRunEnds: an interrupt ends it in order, and the table opens clean.
func TestRunEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.pmt")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, file, "127.0.0.1:0") }()
	require.Eventually(t, func() bool { // written to, as a reader of another process sees
		tab, err := table.Open(file, &table.Options{ReadOnly: true})
		if err != nil {
			return false
		}
		defer tab.Close()
		return tab.Activity().Changes() > 0
	}, 30*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	tab, err := table.Open(file, nil)
	require.NoError(t, err)
	defer tab.Close()
	require.Contains(t, tab.Stats().OpenedFrom, "closed in order")
	require.Positive(t, tab.Len())
	require.ErrorContains(t, run(t.Context(), file, "127.0.0.1:0"), "locked")
}
