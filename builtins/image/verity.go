package image

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	diskimage "b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/store"
)

// Verity is the operation verity().
func Verity() lang.Operation {
	return lang.Operation{
		Name: "verity",
		Doc: `the hashes by which the kernel checks every block of an image as it is read

It has two outputs: tree, an image for a partition of its own, with a superblock and the
hash tree of dm-verity as veritysetup makes them (hash type 1, SHA-256, blocks of 4096
bytes), and root_hash, a file with the hash of the whole as hexadecimal digits without a
line end, which is known before there is a disk: for a kernel's command line, by
template(). The image must not be written to afterwards, so it is mounted read-only.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image; its size is a multiple of 4096 bytes"},
			{Name: "salt", Type: lang.String, Doc: `hexadecimal digits of at most 256 bytes, "" for none (default: derived from this call and its build file)`},
			{Name: "uuid", Type: lang.String, Doc: "UUID of the tree (default: derived from this call and its build file)"},
			lang.NameParam(),
		},
		Example: `hashes = verity(":root")
cmdline = template(content = "roothash=${hash} ro", vars = {"hash": hashes["root_hash"]})
group("hashes", targets = [hashes["tree"]])`,
		Make: verityStep,
	}
}

func verityStep(c *lang.Call) (lang.Step, error) {
	v := &verityTree{UUID: c.String("uuid")}
	if v.UUID == "" {
		v.UUID = partition.DeriveGUID("verity", c.Identity("verity"))
	}
	if _, err := uuidBytes(v.UUID); err != nil {
		c.Errorf("uuid: %w", err)
	}
	if c.Given("salt") {
		salt, err := hex.DecodeString(c.String("salt"))
		if err != nil || len(salt) > mostSalt {
			c.Errorf("salt: want at most %d hexadecimal digits, two for a byte", 2*mostSalt)
		}
		v.Salt = hex.EncodeToString(salt)
	} else {
		salt := sha256.Sum256([]byte(v.UUID))
		v.Salt = hex.EncodeToString(salt[:])
	}
	return lang.Step{
		Action: v, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}},
		Outputs: []engine.Output{{Name: "tree", Kind: store.File, Ext: "raw", Beneath: true}, {Name: "root_hash", Kind: store.File, Ext: "txt", Beneath: true}},
		Finish:  func(l *lang.Linked) error { return rawImages(l, "image") },
	}, nil
}

func uuidBytes(s string) ([]byte, error) {
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		if b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]); err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%q is no UUID", s)
}

// verityTree makes the hash tree of the raw image of the role "image".
type verityTree struct {
	Salt string // hexadecimal
	UUID string
}

// Kind implements engine.Action.
func (*verityTree) Kind() string { return "verity/1" }

const (
	verityBlock     = 4096
	hashesInBlock   = verityBlock / sha256.Size
	mostSalt        = 256 // bytes
	verityAlgorithm = "sha256"
)

// Run implements engine.Action.
func (v *verityTree) Run(ctx context.Context, job *engine.Job) (err error) {
	img, err := OpenInput(ctx, job, "image", "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	if img.Size() == 0 || img.Size()%verityBlock != 0 {
		return fmt.Errorf("the image has %d bytes, no multiple of %d: resize() or image(size = ...) gives it one", img.Size(), verityBlock)
	}
	out, err := os.OpenFile(job.Output("tree"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	salt, err := hex.DecodeString(v.Salt)
	if err != nil {
		return err
	}
	b := verityBuilder{ctx: ctx, salt: salt, out: out, zero: hashBlock(salt, make([]byte, verityBlock)), progress: job.Progress}
	root, err := b.build(img)
	if err == nil {
		err = v.superblock(out, salt, img.Size()/verityBlock)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(job.Output("root_hash"), []byte(hex.EncodeToString(root)), 0o644)
}

// superblock writes the first block, as cryptsetup's lib/verity/verity.c describes it.
func (v *verityTree) superblock(out io.WriterAt, salt []byte, blocks int64) error {
	id, err := uuidBytes(v.UUID)
	if err != nil {
		return err
	}
	b := make([]byte, verityBlock)
	copy(b, "verity\x00\x00")
	binary.LittleEndian.PutUint32(b[8:], 1)  // version
	binary.LittleEndian.PutUint32(b[12:], 1) // hash type: the salt comes first
	copy(b[16:32], id)
	copy(b[32:64], verityAlgorithm)
	binary.LittleEndian.PutUint32(b[64:], verityBlock) // of data
	binary.LittleEndian.PutUint32(b[68:], verityBlock) // of hashes
	binary.LittleEndian.PutUint64(b[72:], uint64(blocks))
	binary.LittleEndian.PutUint16(b[80:], uint16(len(salt)))
	copy(b[88:88+mostSalt], salt)
	_, err = out.WriteAt(b, 0)
	return err
}

// verityBuilder writes hash trees. The superblock comes first, then the levels, the
// topmost first: of each a block of hashes for every 128 blocks of the level below.
type verityBuilder struct {
	ctx      context.Context
	salt     []byte
	out      *os.File
	zero     []byte // the hash of a block of zeros
	progress func(done, total int64)
}

// build writes all levels of the tree of an image, and returns the root's hash.
func (b *verityBuilder) build(img disk.Image) ([]byte, error) {
	counts := []int64{img.Size() / verityBlock} // of blocks, the image's first
	for counts[len(counts)-1] > 1 {
		counts = append(counts, (counts[len(counts)-1]+hashesInBlock-1)/hashesInBlock)
	}
	at := int64(1) // block of the file
	starts := make([]int64, len(counts))
	for i := len(counts) - 1; i > 0; i-- {
		starts[i], at = at, at+counts[i]
	}
	if err := b.out.Truncate(at * verityBlock); err != nil {
		return nil, err
	}
	var last []byte
	for i := range counts {
		var below io.ReaderAt = img
		if i > 0 {
			below = io.NewSectionReader(b.out, starts[i]*verityBlock, counts[i]*verityBlock)
		}
		dst := int64(-1)
		if i+1 < len(counts) {
			dst = starts[i+1] * verityBlock
		}
		var err error
		if last, err = b.level(below, counts[i], dst); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// level hashes blocks, writes the hashes from dst on unless it is -1, and returns the last.
func (b *verityBuilder) level(from io.ReaderAt, blocks, dst int64) (sum []byte, err error) {
	buf, hashes := make([]byte, hashesInBlock*verityBlock), make([]byte, 0, verityBlock)
	for first := int64(0); first < blocks; first += hashesInBlock {
		if err := context.Cause(b.ctx); err != nil {
			return nil, err
		}
		n, hashes := min(hashesInBlock, blocks-first), hashes[:0]
		hole := isHole(from, first*verityBlock, n*verityBlock)
		if !hole {
			if _, err := from.ReadAt(buf[:n*verityBlock], first*verityBlock); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
		}
		for i := range n {
			if sum = b.zero; !hole {
				sum = hashBlock(b.salt, buf[i*verityBlock:][:verityBlock])
			}
			hashes = append(hashes, sum...)
		}
		if dst >= 0 {
			if _, err := b.out.WriteAt(hashes, dst+first/hashesInBlock*verityBlock); err != nil {
				return nil, err
			}
		}
		b.progress((first+n)*verityBlock, blocks*verityBlock)
	}
	return sum, nil
}

// isHole reports whether an image is known to be zero from at on.
func isHole(from io.ReaderAt, at, n int64) bool {
	img, ok := from.(disk.Image)
	if !ok {
		return false
	}
	e, err := img.Extent(at)
	return err == nil && e.State != diskimage.Data && e.Start+e.Length >= at+n
}

func hashBlock(salt, block []byte) []byte {
	h := sha256.New()
	_, _ = h.Write(salt) // never returns an error
	_, _ = h.Write(block)
	return h.Sum(nil)
}
