// Package datastore measures contrib/datastore beside go-ds-leveldb. It is in this module,
// so that what it compares with is no dependency of that one.
package datastore
