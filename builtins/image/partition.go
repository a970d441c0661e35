package image

import (
	"context"
	"errors"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/size"
)

// Partition is the operation partition().
func Partition() lang.Operation {
	return lang.Operation{
		Name: "partition",
		Doc: `one partition of a disk, as an image

The disk has an MBR, with logical partitions numbered from 5, or a GPT.`,
		Positional: 2,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the disk"},
			{Name: "number", Type: lang.Int | lang.String, Required: true, Doc: "which one: its number from 1, its name, or its UUID"},
			lang.NameParam(),
			{Name: "sector", Type: lang.Int, Doc: "size of the disk's sectors, 512 or 4096 (default: found out)"},
		},
		Example: `partition("disk.qcow2", 1, name = "root")`,
		Make:    partitionStep,
	}
}

func partitionStep(c *lang.Call) (lang.Step, error) {
	p := &extractPartition{Select: selector(c), Sector: int(c.Int("sector"))}
	if p.Sector != 0 && p.Sector != 512 && p.Sector != 4096 {
		c.Errorf("sector: want 512 or 4096, got %d", p.Sector)
	}
	return rawStep(c, p), nil
}

// extractPartition copies one partition out of the raw disk of the role "image".
type extractPartition struct {
	Select string `param:"number"` // number, name or UUID
	Sector int    // bytes; 0 finds out
}

// Kind implements engine.Action.
func (e *extractPartition) Kind() string { return "partition/1" }

// Run implements engine.Action.
func (e *extractPartition) Run(ctx context.Context, job *engine.Job) (err error) {
	img, err := OpenInput(ctx, job, "image", "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	table, err := partition.ReadTable(img, e.Sector)
	if err != nil {
		return err
	}
	if table.Backup != "" {
		job.Logf("warning: the partition table is read from its backup: %s", table.Backup)
	}
	p, err := table.Find(e.Select)
	if err != nil {
		return err
	}
	job.Logf("partition %d: %s at %d, %s", p.Number, p.TypeName, p.Start, size.About(p.Length))
	return disk.Convert(ctx, disk.Section(img, p.Start, p.Length), job.Output(""), "raw", disk.WriteOptions{Progress: job.Progress})
}
