// Package data makes the keys, the values and the orders of access of the
// benchmarks: the same for every store, and without an allocation.
package data

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"
)

// MaxKeyBytes and MaxValueBytes bound what a Shape may ask for.
const (
	MaxKeyBytes   = 64
	MaxValueBytes = 64 << 10
)

// Shape is the size of keys and values.
type Shape struct{ KeyBytes, ValueBytes int }

// Payload is what one entry holds of the user's bytes.
func (s Shape) Payload() int { return s.KeyBytes + s.ValueBytes }

// Key writes key i to buf. Consecutive i give keys in no order, and different i
// give different keys.
func (s Shape) Key(buf *[MaxKeyBytes]byte, i int) []byte {
	x := uint64(i) * 0x9e3779b97f4a7c15
	binary.LittleEndian.PutUint64(buf[:], x)
	for at := 8; at < s.KeyBytes; at += 8 {
		x = ^x
		binary.LittleEndian.PutUint64(buf[at:], x)
	}
	return buf[:s.KeyBytes]
}

// pool holds the values: random bytes, so that no store compresses them, and few
// enough to stay in a processor's own cache.
var pool = func() []byte {
	b := make([]byte, 32<<10+MaxValueBytes)
	r := rand.NewPCG(1, 2)
	for at := 0; at+8 <= len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], r.Uint64())
	}
	return b
}()

// Value is value i: a piece of shared random bytes that must not be changed.
func (s Shape) Value(i int) []byte {
	at := (uint64(i) * 0xff51afd7ed558ccd) >> (64 - 15)
	return pool[at : at+uint64(s.ValueBytes)]
}

// Order is a sequence of indices that a workload goes through.
type Order func() int

// Uniform draws from [0, n).
func Uniform(n int, seed uint64) Order {
	r := rand.New(rand.NewPCG(seed, 7))
	return func() int { return r.IntN(n) }
}

// Permuted goes through all of [0, n) once, from a place that seed names, in no
// order, and then again.
func Permuted(n int, seed uint64) Order {
	const prime = 1_000_003 // coprime to any n below that is not its multiple
	at := int(seed % uint64(n))
	step := prime % n
	for gcd(step, n) != 1 {
		step++
	}
	return func() int {
		at += step
		if at >= n {
			at -= n
		}
		return at
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Ranks draws from [0, n) with frequencies in proportion to 1/(1+rank)^theta, as YCSB
// does (Gray et al., "Quickly generating billion-record synthetic databases",
// SIGMOD 1994).
func Ranks(n int, theta float64, seed uint64) Order {
	zetan := zeta(n, theta)
	alpha := 1 / (1 - theta)
	zeta2 := 1 + math.Pow(0.5, theta)
	eta := (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/zetan)
	r := rand.New(rand.NewPCG(seed, 7))
	return func() int {
		u := r.Float64()
		uz := u * zetan
		switch {
		case uz < 1:
			return 0
		case uz < zeta2:
			return 1
		}
		return min(n-1, int(float64(n)*math.Pow(eta*u-eta+1, alpha)))
	}
}

// Zipf draws as Ranks does, the ranks scattered over the keys.
func Zipf(n int, theta float64, seed uint64) Order {
	ranks := Ranks(n, theta, seed)
	return func() int { return int(uint64(ranks()) * 0xc2b2ae3d27d4eb4f >> 8 % uint64(n)) }
}

var zetas sync.Map // what zeta returned, by its arguments

// zeta is the sum of 1/rank^theta over the ranks up to n.
func zeta(n int, theta float64) float64 {
	key := [2]float64{float64(n), theta}
	if known, ok := zetas.Load(key); ok {
		return known.(float64)
	}
	sum := 0.0
	for i := 1; i <= n; i++ {
		sum += 1 / math.Pow(float64(i), theta)
	}
	zetas.Store(key, sum)
	return sum
}

// Take draws count indices before anybody measures.
func Take(o Order, count int) []uint32 {
	picks := make([]uint32, count)
	for i := range picks {
		picks[i] = uint32(o())
	}
	return picks
}
