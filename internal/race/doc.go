// Package race tells whether the race detector is compiled in.
//
// The read path copies bytes that a writer may be reusing and trusts them only
// after a version check, as a sequence lock does. The detector cannot know of
// that check, so under it such bytes are moved word by word with atomic
// operations; everything else stays ordinary memory access, which it does see.
package race
