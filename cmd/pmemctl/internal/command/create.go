package command

import (
	"github.com/spf13/cobra"

	"pmemtable/table"
)

func (a *App) newCreate() *cobra.Command {
	var shape geometry
	cmd := &cobra.Command{
		Use:   "create [flags] FILE",
		Short: "Make an empty table",
		Long: `Make an empty table. An existing file is refused.

The file starts small and grows as it is filled. Stripes are the parts of the
table that are locked independently; they are fixed when it is made, and the
default suits most machines.`,
		Example: `  pmemctl create cache.pmt
  pmemctl create --stripes 256 --mode 0640 /mnt/pmem/index.pmt`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			o := table.Options{MustCreate: true}
			if err := shape.apply(&o); err != nil {
				return err
			}
			return with(args[0], o, func(t *table.Table) error {
				stats := t.Stats()
				out := a.stdout(false)
				out.line("created", "%s", args[0])
				out.line("stripes", "%d", stats.Stripes)
				out.line("medium", "%s", stats.Medium)
				out.line("survives", "%s (durability %s)", stats.Survives, stats.Durability)
				return out.Flush()
			})
		},
	}
	shape.register(cmd.Flags())
	return cmd
}
