// Package guest is the root of what tests the table against machines that really
// lose power: a program that runs alone in a virtual machine (init), what it does
// there (session), what must be found afterwards (history), the machine (machine),
// the log of its disk (blocklog) and the commands on the host (lab).
//
// It is a module of its own because its packages stand above the table, and because
// no user of the library needs them. docs/guest.md says what each command proves.
package guest
