package table

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"slices"
)

// Codec turns values of a type into bytes and back. The same value must always
// give the same bytes, since keys are looked up and values compared by them. A
// codec is used by many goroutines at a time.
type Codec[T any] interface {
	// Append appends the encoding of v to dst, which it may grow, and returns it.
	Append(dst []byte, v T) ([]byte, error)
	// Decode returns the value that src encodes. It must not keep src, which is
	// used again.
	Decode(src []byte) (T, error)
}

// Integer is what IntegerCodec takes.
type Integer interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uint | ~uintptr
}

// IntegerCodec returns a codec of integers: as many little-endian bytes as the
// type has, but eight for int, uint and uintptr, whose size depends on the
// machine. It allocates nothing.
func IntegerCodec[T Integer]() Codec[T] {
	sizeBytes := binary.Size(T(0))
	if sizeBytes < 0 {
		sizeBytes = 8
	}
	return integerCodec[T]{sizeBytes}
}

type integerCodec[T Integer] struct{ sizeBytes int }

// Append implements Codec.
func (c integerCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	for i, u := 0, uint64(v); i < c.sizeBytes; i, u = i+1, u>>8 {
		dst = append(dst, byte(u))
	}
	return dst, nil
}

// Decode implements Codec.
func (c integerCodec[T]) Decode(src []byte) (v T, err error) {
	if len(src) != c.sizeBytes {
		return 0, lengthError(c.sizeBytes, len(src))
	}
	var u uint64
	for i, b := range src {
		u |= uint64(b) << (8 * i)
	}
	// The sign comes back, since the conversion drops the upper bytes. An int of
	// four bytes may not hold what one of eight had.
	v = T(u)
	if back, _ := c.Append(make([]byte, 0, 8), v); c.sizeBytes == 8 && !slices.Equal(back, src) {
		return 0, fmt.Errorf("%d does not fit in %T", int64(u), v)
	}
	return v, nil
}

// ByteArray is what ArrayCodec takes: identifiers and hashes.
type ByteArray interface {
	~[4]byte | ~[6]byte | ~[8]byte | ~[12]byte | ~[16]byte | ~[20]byte | ~[24]byte | ~[28]byte | ~[32]byte | ~[48]byte | ~[64]byte
}

// ArrayCodec returns a codec of byte arrays, as they are. It allocates nothing.
func ArrayCodec[T ByteArray]() Codec[T] { return arrayCodec[T]{} }

type arrayCodec[T ByteArray] struct{}

// Append implements Codec.
func (arrayCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	for i := range len(v) {
		dst = append(dst, v[i])
	}
	return dst, nil
}

// Decode implements Codec.
func (arrayCodec[T]) Decode(src []byte) (v T, err error) {
	if len(src) != len(v) {
		return v, lengthError(len(v), len(src))
	}
	for i := range len(v) {
		v[i] = src[i]
	}
	return v, nil
}

// StringCodec returns a codec of strings, as they are. Decode allocates the string.
func StringCodec[T ~string]() Codec[T] { return stringCodec[T]{} }

type stringCodec[T ~string] struct{}

// Append implements Codec.
func (stringCodec[T]) Append(dst []byte, v T) ([]byte, error) { return append(dst, v...), nil }

// Decode implements Codec.
func (stringCodec[T]) Decode(src []byte) (T, error) { return T(src), nil }

// BytesCodec returns a codec of byte slices, as they are; nil and an empty one are
// the same. Decode returns a copy, never nil.
func BytesCodec[T ~[]byte]() Codec[T] { return bytesCodec[T]{} }

type bytesCodec[T ~[]byte] struct{}

// Append implements Codec.
func (bytesCodec[T]) Append(dst []byte, v T) ([]byte, error) { return append(dst, v...), nil }

// Decode implements Codec.
func (bytesCodec[T]) Decode(src []byte) (T, error) { return append(T{}, src...), nil }

// Binary is a pointer to T that has the methods of the standard library's package
// encoding.
type Binary[T any] interface {
	*T
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// BinaryCodec returns a codec of types that encode themselves, like time.Time and
// netip.Addr: BinaryCodec[time.Time](). Where a type has AppendBinary, Append calls
// it and spares an allocation.
func BinaryCodec[T any, P Binary[T]]() Codec[T] { return binaryCodec[T, P]{} }

type binaryCodec[T any, P Binary[T]] struct{}

// Append implements Codec.
func (binaryCodec[T, P]) Append(dst []byte, v T) ([]byte, error) {
	if a, ok := any(P(&v)).(encoding.BinaryAppender); ok {
		return a.AppendBinary(dst)
	}
	b, err := P(&v).MarshalBinary()
	return append(dst, b...), err
}

// Decode implements Codec.
func (binaryCodec[T, P]) Decode(src []byte) (v T, err error) {
	err = P(&v).UnmarshalBinary(src)
	return v, err
}

func lengthError(want, have int) error {
	return fmt.Errorf("%d bytes instead of %d", have, want)
}
