package table

import (
	"context"

	"pmemtable/pmem"
	"pmemtable/recovery"
)

// Salvage is what Repair does between opening the damaged pool and closing the
// new table.
func (t *Table) Salvage(p *pmem.Pool, d *pmem.Damage, reach recovery.Reach) (RepairReport, error) {
	return t.salvage(context.Background(), p, d, RepairOptions{Reach: reach})
}
