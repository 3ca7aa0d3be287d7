package kv

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"pmemtable/table"
)

// Main runs a node until it is told to stop, by an interrupt or SIGTERM, or fails.
func Main(args []string) error {
	c, err := parseFlags(args)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Peers[c.ID].HTTP)
	if err != nil {
		return err
	}
	n, err := Open(c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	server := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
	case err = <-n.Failed():
	case err = <-served:
	}
	stop, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	if server.Shutdown(stop) != nil {
		_ = server.Close()
	}
	return errors.Join(err, n.Close())
}

func parseFlags(args []string) (c Config, err error) {
	flags := flag.NewFlagSet("kvnode", flag.ContinueOnError)
	flags.StringVar(&c.ID, "id", "", "name of this node, one of the peers")
	flags.StringVar(&c.Dir, "dir", "", "directory for its files")
	peers := flags.String("peers", "", "all nodes: NAME=RAFT-ADDRESS/HTTP-ADDRESS, separated by commas")
	flags.DurationVar(&c.Heartbeat, "heartbeat", 0, "how long followers wait for the leader (0: a second)")
	flags.Uint64Var(&c.SnapshotEvery, "snapshot-every", 0, "entries between snapshots (0: 8192)")
	durability := flags.String("log-durability", "always", "of the log: always, interval=D or onsync")
	level := flags.String("log-level", "info", "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	c.Logger = hclog.New(&hclog.LoggerOptions{Name: c.ID, Level: hclog.LevelFromString(*level)})
	if c.LogDurability, err = table.ParseDurability(*durability); err != nil {
		return c, err
	}
	if c.Peers, err = parsePeers(*peers); err != nil {
		return c, err
	}
	if _, known := c.Peers[c.ID]; !known || c.Dir == "" {
		return c, fmt.Errorf("-id %q must be one of the -peers, and -dir must be given", c.ID)
	}
	return c, nil
}

func parsePeers(s string) (map[string]Peer, error) {
	peers := make(map[string]Peer)
	for _, one := range strings.Split(s, ",") {
		id, addresses, ok := strings.Cut(one, "=")
		raftAddress, httpAddress, both := strings.Cut(addresses, "/")
		if _, twice := peers[id]; !ok || !both || id == "" || twice {
			return nil, fmt.Errorf("-peers: %q is not NAME=RAFT-ADDRESS/HTTP-ADDRESS of a node of its own", one)
		}
		peers[id] = Peer{raftAddress, httpAddress}
	}
	return peers, nil
}
