package command

import "pmemtable/table"

// createDocument is what create --json prints.
type createDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Stripes       int    `json:"stripes"`
	Medium        string `json:"medium"`
	Survives      string `json:"survives"`
	Durability    string `json:"durability"`
}

func createVerb() verb {
	var shape geometry
	return verb{
		usage: "create FILE",
		short: "Make an empty table",
		long: `Make an empty table. An existing file is refused.

The file starts small and grows as it is filled. Stripes are the parts of the
table that are locked independently; they are fixed when it is made, and the
default suits most machines.`,
		example: `  pmemctl create cache.pmt
  pmemctl create --stripes 256 --mode 0640 /mnt/pmem/index.pmt`,
		flags: shape.register,
		run: func(c *call) error {
			o := table.Options{MustCreate: true}
			if err := shape.apply(&o); err != nil {
				return err
			}
			return with(c.args[0], o, func(t *table.Table) error {
				d := newCreateDocument(c.args[0], t.Stats())
				return c.answer(d, d.print)
			})
		},
	}
}

func newCreateDocument(file string, s table.Stats) createDocument {
	return createDocument{schemaVersion, file, s.Stripes, s.Medium.String(), s.Survives, s.Durability}
}

func (d createDocument) print(out *output) {
	out.line("created", "%s", d.File)
	out.line("stripes", "%d", d.Stripes)
	out.line("medium", "%s", d.Medium)
	out.line("survives", "%s (durability %s)", d.Survives, d.Durability)
}
