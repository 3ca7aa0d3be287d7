package data

import (
	"testing"
)

func TestKeysDiffer(t *testing.T) {
	for _, size := range []int{8, 16, 32} {
		s := Shape{size, 100}
		seen := map[string]bool{}
		var buf [MaxKeyBytes]byte
		for i := range 1000 {
			seen[string(s.Key(&buf, i))] = true
		}
		if len(seen) != 1000 {
			t.Errorf("%d bytes: %d different keys of 1000", size, len(seen))
		}
		if n := len(s.Value(7)); n != 100 {
			t.Errorf("a value of %d bytes", n)
		}
	}
}

func TestPermutedMeetsAll(t *testing.T) {
	for _, n := range []int{1, 2, 10, 1000, 1_000_003} {
		seen := make([]bool, n)
		for _, i := range Take(Permuted(n, 5), n) {
			seen[i] = true
		}
		for i, ok := range seen {
			if !ok {
				t.Fatalf("of %d: %d was not met", n, i)
			}
		}
	}
}

func TestZipfIsSkewed(t *testing.T) {
	const n, draws = 1000, 100_000
	counts := make([]int, n)
	for _, i := range Take(Zipf(n, 0.99, 1), draws) {
		counts[i]++
	}
	top := 0
	for _, c := range counts {
		top = max(top, c)
	}
	// The first rank has 1/zeta(1000, 0.99), about an eighth.
	if top < draws/10 || top > draws/5 {
		t.Errorf("the most frequent of %d keys was drawn %d times of %d", n, top, draws)
	}
}

func TestRanksFall(t *testing.T) {
	const n, draws = 1000, 100_000
	counts := make([]int, n)
	for _, rank := range Take(Ranks(n, 0.99, 1), draws) {
		counts[rank]++
	}
	if counts[0] < draws/10 || counts[0] > draws/5 {
		t.Errorf("rank 0 was drawn %d times of %d", counts[0], draws)
	}
	for _, pair := range [][2]int{{0, 1}, {1, 9}, {9, 99}} {
		if counts[pair[0]] <= counts[pair[1]] {
			t.Errorf("rank %d was drawn %d times, rank %d %d times", pair[0], counts[pair[0]], pair[1], counts[pair[1]])
		}
	}
}
