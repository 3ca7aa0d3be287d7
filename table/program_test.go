package table_test

import (
	"os"
	"os/exec"
	"strings"
)

// testProgram is this test binary, behind an emulator's name where that is needed.
func testProgram(args ...string) *exec.Cmd {
	words := append(strings.Fields(os.Getenv("PMEMTABLE_TEST_EXEC")), os.Args[0])
	words = append(words, args...)
	return exec.Command(words[0], words[1:]...)
}
