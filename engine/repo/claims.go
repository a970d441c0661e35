package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/repo/internal/backend"
)

// How pushes of several processes and machines keep from sending the same blocks:
//
// A push that has more than claimLeast new blocks keeps a file in tmp/ while it
// runs, and writes into it which blocks it is about to send (a sample of their
// names), and each pack that has arrived. Before it sends it reads the files of the
// others. Packs that have arrived there it uses, as it uses those of its own journal.
// Where another one is sending a good part of the same blocks just now it waits for
// those packs. Of two that announce the same blocks at once the one whose file's name
// comes first goes on, and the other takes back what it announced: so nobody waits
// in a circle. One that has looked before the first announced does not know of it and
// sends already: so the first waits a moment, and gives way to a claim that stays.
//
// All of this saves bytes, and nothing depends on it: what can't be read is passed
// over, who writes nothing for claimPatience counts as dead, a process of this machine
// that is gone at once, and nobody waits longer
// than claimMost for the blocks of a pack. A b9 that knows nothing of it sees
// temporary files, and a collection deletes what a push that died has left.

const (
	// claimLeast is from how many new blocks on a push takes part: 1 MiB.
	claimLeast = 256
	// claimBeat is how often a push writes at least.
	claimBeat     = 10 * time.Second
	claimPatience = 3 * claimBeat
	claimMost     = 10 * time.Minute
	claimPoll     = 200 * time.Millisecond
	// claimSettle is how long the one that goes first waits for the other to take back
	// its claim.
	claimSettle = 2 * time.Second
	// claimFile begins the names in tmp/, and maxClaims bounds such a file, in bytes.
	claimFile = "claim"
	maxClaims = 16 << 20
)

// claimLine is a line of such a file, a JSON object.
type claimLine struct {
	// Claim numbers what is about to be sent; Sample are the names, one behind the other,
	// of its blocks whose names end in six zero bits.
	Claim  int    `json:"claim,omitempty"`
	Sample []byte `json:"sample,omitempty"`
	// Done is the number of a claim that is over: all was sent, or nothing.
	Done int `json:"done,omitempty"`
	// Pack has arrived.
	Pack *sentPack `json:"pack,omitempty"`
}

// standins are the names of the blocks that stand for all.
func standins(ids []blockID) []byte {
	var some []byte
	for _, id := range ids {
		if id[len(id)-1]&0x3f == 0 {
			some = append(some, id[:]...)
		}
	}
	return some
}

// claims are what one push announces and knows of others. One goroutine calls
// window; sent and finished may be called by several.
type claims struct {
	r      *Repo
	others map[string]*rival
	looked bool

	mu    sync.Mutex // guards the rest
	name  string     // of the own file; empty: there is none yet
	text  []byte     // everything written to it
	count int
	left  map[int]int // packs of a claim that have not arrived
	lost  error       // the server is out of reach; nil while it is not

	stop    context.CancelFunc // of the beat
	beating sync.WaitGroup
}

func newClaims(r *Repo) *claims {
	return &claims{r: r, others: map[string]*rival{}, left: map[int]int{}}
}

// rival is another push that runs.
type rival struct {
	read    int64
	rest    []byte         // of a line without an end
	flying  map[int][]byte // samples of what is being sent, by claim
	packs   []sentPack
	size    int64
	changed time.Time // when size did, by the clock of this machine
	dead    bool
}

// overlaps reports whether a rival is sending a good part of what the sample stands
// for, so that waiting for it pays.
func (v *rival) overlaps(some []byte) bool {
	mine, common := map[string]bool{}, 0
	for id := range slices.Chunk(some, len(blockID{})) {
		mine[string(id)] = true
	}
	for _, ids := range v.flying {
		for id := range slices.Chunk(ids, len(blockID{})) {
			if mine[string(id)] {
				common++
			}
		}
	}
	return !v.dead && common > 0 && 4*common >= len(mine)
}

// take reads further lines.
func (v *rival) take(b []byte) {
	b = slices.Concat(v.rest, b)
	for text := range bytes.Lines(b) {
		if !bytes.HasSuffix(text, []byte("\n")) {
			v.rest = text
			return
		}
		var l claimLine
		if json.Unmarshal(text, &l) != nil {
			continue // a beat, or what nobody should write
		}
		if l.Claim > 0 {
			v.flying[l.Claim] = l.Sample
		}
		if p := l.Pack; p != nil && p.sound() {
			v.packs = append(v.packs, *p)
		}
		delete(v.flying, l.Done)
	}
	v.rest = nil
}

// window announces blocks that are about to be sent, and returns the number of
// the claim. unknown says which blocks are; it is asked again whenever more is known.
// renew makes known what is published, and packs, or returns an error.
func (c *claims) window(ctx context.Context, unknown func() []blockID, renew func(published bool, packs []sentPack) error) (claim int, err error) {
	begun, contested := time.Now(), time.Time{}
	for {
		if err := c.look(ctx, renew); err != nil {
			return claim, err
		}
		ids := unknown()
		if len(ids) == 0 {
			return 0, c.write(ctx, claimLine{Done: claim})
		}
		some := standins(ids)
		first, later := c.inTheWay(some)
		if claim == 0 || !later {
			contested = time.Time{}
		} else if contested.IsZero() {
			contested = time.Now()
		}
		switch {
		case time.Since(begun) >= claimMost && claim != 0:
			return claim, nil
		case claim != 0 && later && !first && time.Since(contested) < claimSettle:
			if err := pause(ctx, claimPoll); err != nil {
				return 0, err
			}
		case (first || later) && time.Since(begun) < claimMost:
			if err := c.write(ctx, claimLine{Done: claim}); err != nil {
				return 0, err
			}
			claim = 0
			if err := pause(ctx, claimPoll); err != nil {
				return 0, err
			}
		case claim != 0:
			return claim, nil
		default:
			if claim, err = c.announce(ctx, some); err != nil {
				return 0, err
			}
		}
	}
}

// inTheWay reports whether rivals send the same, or are about to: such whose names
// come before that of the own file, and such whose names come later.
func (c *claims) inTheWay(some []byte) (first, later bool) {
	for name, v := range c.others {
		if v.overlaps(some) {
			first, later = first || name < c.name, later || name >= c.name
		}
	}
	return first, later
}

// announce makes a claim.
func (c *claims) announce(ctx context.Context, some []byte) (int, error) {
	c.mu.Lock()
	c.count++
	n := c.count
	c.mu.Unlock()
	return n, c.write(ctx, claimLine{Claim: n, Sample: some})
}

// expect says into how many packs a claim went. finished with the last of them ends it.
func (c *claims) expect(ctx context.Context, claim, packs int) {
	if claim == 0 {
		return
	}
	c.mu.Lock()
	c.left[claim] += packs
	over := c.left[claim] == 0
	c.mu.Unlock()
	if over {
		_ = c.write(ctx, claimLine{Done: claim})
	}
}

// arrived tells of a pack that is there; claim is the one that it belongs to.
func (c *claims) arrived(ctx context.Context, claim int, p sentPack) {
	c.mu.Lock()
	none := c.name == ""
	c.mu.Unlock()
	if none {
		return
	}
	l := claimLine{Pack: &p}
	if claim != 0 {
		c.mu.Lock()
		if c.left[claim]--; c.left[claim] == 0 {
			l.Done = claim
		}
		c.mu.Unlock()
	}
	_ = c.write(ctx, l) // another one sends it again
}

// write appends a line to the own file, which it makes. That it can't is no error, but
// for a server that is out of reach, and the end of the context.
func (c *claims) write(ctx context.Context, l claimLine) error {
	if l.Claim == 0 && l.Done == 0 && l.Pack == nil {
		return nil
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return c.append(ctx, append(b, '\n'))
}

func (c *claims) append(ctx context.Context, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost // to connect again is for whoever needs it
	}
	c.text = append(c.text, b...)
	err := fs.ErrNotExist
	if c.name != "" {
		err = c.r.files.Append(ctx, c.name, b)
	}
	if errors.Is(err, fs.ErrNotExist) { // not made yet, or collected
		name := backend.TempName(fmt.Sprintf("%s-%s-%d", claimFile, thisMachine(), os.Getpid()))
		if err = c.r.files.Create(ctx, name, c.text); err == nil {
			c.name = name
		}
	}
	if c.name != "" && c.stop == nil {
		c.beat(ctx)
	}
	if errors.Is(err, ErrUnreachable) {
		c.lost = err
	}
	return cmp.Or(context.Cause(ctx), c.lost)
}

// beat writes an empty line now and then, as long as the push runs.
func (c *claims) beat(ctx context.Context) {
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.beating.Go(func() {
		for pause(ctx, claimBeat) == nil {
			_ = c.append(ctx, []byte("\n"))
		}
	})
}

// close removes the own file: what this push sent is published, or lost.
func (c *claims) close() {
	c.mu.Lock()
	stop, name := c.stop, c.name
	lost := c.lost != nil
	c.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	c.beating.Wait()
	if lost {
		return // who sees the file takes it for that of a push that died
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = c.r.files.Remove(ctx, name) // a collection does
}

// look reads what others announce, and makes known what has arrived. A file that is
// gone is that of a push that has ended, most likely well.
func (c *claims) look(ctx context.Context, renew func(published bool, packs []sentPack) error) error {
	list, err := c.r.files.List(ctx, "tmp")
	if errors.Is(err, ErrUnreachable) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lost = err
		return cmp.Or(context.Cause(ctx), err)
	}
	if err != nil {
		return context.Cause(ctx)
	}
	published, newest := !c.looked, time.Time{}
	c.looked = true
	there := map[string]fs.FileInfo{}
	for _, f := range list {
		if newest = later(newest, f.ModTime()); strings.HasPrefix(f.Name(), claimFile+"-") && "tmp/"+f.Name() != c.name {
			there["tmp/"+f.Name()] = f
		}
	}
	for name := range maps.Clone(c.others) {
		if there[name] == nil {
			delete(c.others, name)
			published = true
		}
	}
	var packs []sentPack
	for name, f := range there {
		packs = append(packs, c.read(ctx, name, f, newest)...)
	}
	if err := context.Cause(ctx); err != nil || !published && len(packs) == 0 {
		return err
	}
	return renew(published, packs)
}

// read reads what is new in a rival's file, and returns the packs in it. newest is
// the latest time of a file in tmp/, by the server's clock.
func (c *claims) read(ctx context.Context, name string, f fs.FileInfo, newest time.Time) []sentPack {
	v := c.others[name]
	if v == nil {
		v = &rival{flying: map[int][]byte{}, changed: time.Now(), dead: newest.Sub(f.ModTime()) > claimPatience}
		c.others[name] = v
	}
	if f.Size() != v.size {
		v.dead = v.dead && v.size == 0 // at first sight
		v.size, v.changed = f.Size(), time.Now()
	}
	if v.dead || time.Since(v.changed) > claimPatience || hasEnded(name) {
		v.dead = true
		return nil
	}
	if v.read < f.Size() {
		err := backend.ReadFrom(ctx, c.r.files, name, v.read, 64<<10, maxClaims, func(b []byte) error {
			v.read += int64(len(b))
			v.take(b)
			return nil
		})
		v.dead = err != nil && !errors.Is(err, fs.ErrNotExist)
	}
	packs := v.packs
	v.packs = nil
	return packs
}

// thisMachine names what numbers of processes hold for: a run of a kernel, and a
// namespace of processes.
func thisMachine() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	sum := blake3.Sum256([]byte(string(boot) + space))
	return hex.EncodeToString(sum[:8])
}

// hasEnded reports whether a file is that of a process of this machine that is gone,
// so that nobody has to wait to find that out.
func hasEnded(name string) bool {
	rest, ok := strings.CutPrefix(path.Base(name), claimFile+"-"+thisMachine()+"-")
	number, _, _ := strings.Cut(rest, ".")
	pid, err := strconv.Atoi(number)
	return ok && err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// pause waits, or returns the cause why the context has ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
