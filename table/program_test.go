package table_test

import (
	"os"
	"os/exec"
	"strings"
)

// childOf tells which child of a test this process is: the words of a variable of the
// environment that its parent has set, the last of them with the rest; nil for none. The
// child runs the same test, which then does the child's part.
func childOf(env string, words int) []string {
	args := os.Getenv(env)
	if args == "" {
		return nil
	}
	return strings.SplitN(args, " ", words)
}

// testProgram is this test binary, behind an emulator's name where that is needed.
func testProgram(args ...string) *exec.Cmd {
	words := append(strings.Fields(os.Getenv("PMEMTABLE_TEST_EXEC")), os.Args[0])
	words = append(words, args...)
	return exec.Command(words[0], words[1:]...)
}
