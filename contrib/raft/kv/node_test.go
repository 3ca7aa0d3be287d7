package kv_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/kv"
	"pmemtable/table"
)

// alone opens a cluster of one node in this process.
func alone(t *testing.T, dir string) (*kv.Node, *httptest.Server) {
	n, err := kv.Open(kv.Config{
		ID: "only", Dir: dir, Heartbeat: 50 * time.Millisecond, LogDurability: table.OnSync,
		Peers: map[string]kv.Peer{"only": {Raft: freeAddress(t), HTTP: "unused"}}, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	server := httptest.NewServer(n.Handler())
	require.Eventually(t, func() bool { return n.Status().State == "Leader" }, deadline, time.Millisecond)
	return n, server
}

func ask(t *testing.T, method, url string, body io.Reader) (int, string) {
	request, err := http.NewRequest(method, url, body)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(b)
}

func TestHTTP(t *testing.T) {
	dir := t.TempDir()
	n, server := alone(t, dir)
	expect := func(method, path, body string, status int, want string) {
		t.Helper()
		code, got := ask(t, method, server.URL+path, strings.NewReader(body))
		require.Equal(t, status, code, got)
		require.Contains(t, got, want)
	}
	expect("GET", "/kv/a", "", 404, "not found")
	expect("PUT", "/kv/a", "1", 204, "")
	expect("POST", "/kv/a", "2", 204, "")
	expect("POST", "/kv/new/with/slashes", "3", 204, "")
	expect("GET", "/kv/a", "", 200, "12")
	expect("GET", "/kv/a?local=1", "", 200, "12")
	expect("GET", "/kv/new/with/slashes", "", 200, "3")
	expect("DELETE", "/kv/a", "", 204, "")
	expect("DELETE", "/kv/a", "", 204, "")
	expect("GET", "/kv/a", "", 404, "not found")
	expect("PATCH", "/kv/a", "", 405, "")
	expect("PUT", "/kv/"+strings.Repeat("k", 65_536), "", 413, "too large")
	expect("PUT", "/kv/large", strings.Repeat("v", kv.MaxBodyBytes+1), 413, "too large")
	expect("GET", "/all", "", 200, `{"Key":"bmV3L3dpdGgvc2xhc2hlcw==","Value":"Mw=="}`)
	var s kv.Status
	_, body := ask(t, "GET", server.URL+"/status", nil)
	require.NoError(t, json.Unmarshal([]byte(body), &s))
	require.Equal(t, "only", s.Leader)
	require.Equal(t, 1, s.Entries)
	require.Empty(t, s.Condition)

	server.Close()
	require.NoError(t, n.Close())
	n, server = alone(t, dir)
	defer server.Close()
	expect("GET", "/kv/new/with/slashes", "", 200, "3")
	require.NoError(t, n.Close())
	expect("GET", "/kv/new/with/slashes", "", 503, "")
	expect("PUT", "/kv/a", "", 503, "")
}

func TestBadConfig(t *testing.T) {
	for args, want := range map[string]string{
		"":                                  "-peers",
		"-id a -dir x -peers a=127.0.0.1:1": "-peers",
		"-id a -dir x -peers a=127.0.0.1:1/127.0.0.1:2,a=:3/:4":        "-peers",
		"-id b -dir x -peers a=127.0.0.1:1/127.0.0.1:2":                "-id",
		"-id a -peers a=127.0.0.1:1/127.0.0.1:2":                       "-dir",
		"-id a -dir x -log-durability ever -peers a=127.0.0.1:1/:2":    "durability",
		"-id a -dir x -peers a=256.256.256.256:1/256.256.256.256:2":    "256",
		"-id a -dir x -snapshot-every -1 -peers a=127.0.0.1:1/:2 more": "snapshot-every",
	} {
		require.ErrorContains(t, kv.Main(strings.Fields(args)), want, args)
	}
	path := filepath.Join(t.TempDir(), "file")
	tab, err := table.Open(path, nil)
	require.NoError(t, err)
	defer tab.Close()
	_, err = kv.Open(kv.Config{ID: "a", Dir: path, Peers: map[string]kv.Peer{"a": {}}})
	require.Error(t, err, "its directory is a file")
}

func TestBadCommands(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("p"), []byte("p\x05key"), bytes.Repeat([]byte{0xff}, 12), []byte("x\x01k")} {
		require.Error(t, kv.ApplyForTest(data), "%q", data)
	}
	require.NoError(t, kv.ApplyForTest([]byte("d\x01k")))
}
