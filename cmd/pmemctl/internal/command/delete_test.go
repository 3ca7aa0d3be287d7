package command

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDelete(t *testing.T) {
	file := newTable(t, "a", "1", "b", "2", "\xff", "3")
	assert.Empty(t, must(t, "delete", file, "a"))
	fails(t, ExitCondition, `key "a": not found`, "delete", file, "a")
	must(t, "delete", "--key-format", "hex", file, "ff")
	fails(t, ExitCondition, "does not have that value", "delete", "--if-value", "1", file, "b")
	fails(t, ExitCondition, "not found", "delete", "--if-value", "1", file, "c")
	assert.Equal(t, "1\n", must(t, "count", file))
	must(t, "delete", "--if-value", "2", file, "b")
	assert.Equal(t, "0\n", must(t, "count", file))
}
