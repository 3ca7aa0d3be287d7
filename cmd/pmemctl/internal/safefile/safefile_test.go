package safefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func fillWith(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteMakesAWholePrivateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	require.NoError(t, Write(path, func(w io.Writer) error {
		_, err := os.Lstat(path)
		assert.ErrorIs(t, err, fs.ErrNotExist, "the name must not be there before the content is")
		return fillWith("content")(w)
	}))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "content", string(got))
	assert.Equal(t, []string{"out"}, names(t, dir))
	if info, err := os.Stat(path); assert.NoError(t, err) && runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o600), info.Mode())
	}
}

func TestWriteRefusesAnExistingTarget(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	require.NoError(t, Write(path, fillWith("first")))
	called := false
	err := Write(path, func(io.Writer) error { called = true; return nil })
	assert.ErrorIs(t, err, fs.ErrExist)
	assert.False(t, called)

	late := filepath.Join(dir, "late")
	err = Write(late, func(w io.Writer) error {
		require.NoError(t, os.WriteFile(late, []byte("other"), 0o600))
		return fillWith("ours")(w)
	})
	assert.ErrorIs(t, err, fs.ErrExist)
	got, err := os.ReadFile(late)
	require.NoError(t, err)
	assert.Equal(t, "other", string(got))
	assert.Equal(t, []string{"late", "out"}, names(t, dir))

	dangling := filepath.Join(dir, "dangling")
	if os.Symlink("nowhere", dangling) == nil {
		assert.ErrorIs(t, Write(dangling, fillWith("x")), fs.ErrExist)
	}
}

func TestWriteLeavesNothingWhenItFails(t *testing.T) {
	dir := t.TempDir()
	reason := errors.New("the source broke")
	err := Write(filepath.Join(dir, "out"), func(w io.Writer) error {
		_ = fillWith("half")(w)
		return reason
	})
	assert.ErrorIs(t, err, reason)
	assert.Empty(t, names(t, dir))

	missing := filepath.Join(dir, "missing", "out")
	err = Write(missing, fillWith(""))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, missing+":")
}

func TestPublishByLinkNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, []byte("a"), 0o600))
	require.NoError(t, os.WriteFile(b, []byte("b"), 0o600))
	assert.ErrorIs(t, publishByLink(a, b), fs.ErrExist)
	require.NoError(t, os.Remove(b))
	require.NoError(t, publishByLink(a, b))
	assert.Equal(t, []string{"b"}, names(t, dir))
}
