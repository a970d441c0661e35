package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
)

// Room on the disk
//
// Two bounds follow the disk. The store may occupy a share of what it holds and of what
// is free around it (Policy.MaxShare), and some of the file system stays free for whatever
// comes: a twentieth of it, but at most 10 GiB and, where it is small, no less than 1 GiB
// or a tenth ([Space.Reserve]). The share is what a collection after a build keeps to. The
// reserve is looked at before each step that runs, when another process may have
// filled the disk since: then room is made at once, of what this build does not need.

// Space is what a file system has.
type Space struct {
	Free, Total int64 // bytes; Free is for users without privileges
}

// Space says what the file system of the store has.
func (s *Store) Space() (Space, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Fstatfs(int(s.root.Fd()), &st) }); err != nil {
		return Space{}, fmt.Errorf("look how full %s is: %w", s.dir, err)
	}
	return Space{int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize}, nil
}

// Reserve is how many bytes of the file system are to stay free.
func (sp Space) Reserve() int64 {
	return max(min(sp.Total/20, 10<<30), min(1<<30, sp.Total/10))
}

// short is how many bytes are missing until so many, and the reserve, are free.
func (sp Space) short(need int64) int64 { return sp.Reserve() + need - sp.Free }

// triedAgain is for how long it is not tried again to make room after there was too
// little to take: looking for it takes longer than many a step.
const triedAgain = time.Minute

// MakeRoom collects if less than need bytes and the reserve are free on the file system of
// the store, until they are or nothing is left to take; of the policy Dear and Ours count.
// While another collection is under way it does nothing, nor within a minute after one
// of this Store that made too little room.
func (s *Store) MakeRoom(ctx context.Context, need int64, p Policy) (CollectReport, error) {
	space, err := s.Space()
	if err != nil || space.short(need) <= 0 || s.readOnly != nil {
		return CollectReport{}, err
	}
	s.roomMu.Lock()
	defer s.roomMu.Unlock()
	if time.Since(s.roomTried) < triedAgain {
		return CollectReport{}, nil
	}
	lock, err := tryLock(s.lockPath("collect"), flock.Exclusive)
	if errors.Is(err, flock.ErrLocked) {
		return CollectReport{}, nil
	}
	if err != nil {
		return CollectReport{}, fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	defer lock.Close()
	report, err := s.collect(ctx, Policy{MinFree: space.Reserve() + need, Dear: p.Dear, Ours: p.Ours, Urgent: true, DryRun: p.DryRun})
	if space, serr := s.Space(); serr == nil && space.short(need) > 0 {
		s.roomTried = time.Now()
	}
	return report, err
}

// Reclaimable is how many bytes collection could free, of what is not part of the build
// as [Policy.Ours] says.
func (s *Store) Reclaimable(ctx context.Context, p Policy) (n int64, err error) {
	if s.readOnly != nil {
		return 0, nil
	}
	c := &collector{s: s, policy: p}
	if err := c.inventory.scan(ctx, s); err != nil {
		return 0, err
	}
	if err := c.refresh(); err != nil {
		return 0, err
	}
	ranks := c.ranks()
	for _, it := range c.items {
		if !c.held(it.digest, it.used) && ranks[it] < rankOurs {
			n += it.alloc
		}
	}
	return n, nil
}

// LastSize is how many bytes the outputs take on the disk that the step of the label made
// when it last ran, as far as they are there: of a difference, what differs. 0 is not known.
func (s *Store) LastSize(label string) (n int64) {
	r, err := s.pointed(label)
	if err != nil || r == nil {
		return 0
	}
	for _, o := range r.Outputs {
		var st unix.Stat_t
		if o.Object.Kind == Tree {
			n += s.Data(o.Object)
		} else if _, err := s.find(o.Object, &st); err == nil {
			n += min(st.Size, st.Blocks*512)
		}
	}
	return n
}

// limit is the most bytes that the store may occupy; 0 is no limit.
func (c *collector) limit() (int64, error) {
	space, err := c.s.Space()
	return c.policy.limit(c.report.Kept, space), err
}

func (p Policy) limit(held int64, space Space) int64 {
	if p.MaxShare == 0 || p.MaxSize != 0 {
		return p.MaxSize
	}
	return max(1, shareOf(held+space.Free, p.MaxShare))
}

// Limit is the most bytes that a store of which so much is known may occupy; 0 is no limit.
func (p Policy) Limit(u Usage, space Space) int64 {
	return p.limit(u.Allocated+u.FailedBytes, space)
}

func shareOf(n int64, percent int) int64 { return n/100*int64(percent) + n%100*int64(percent)/100 }

// Ranks of what goes to make room, in their order.
const (
	rankAgain = iota // it can be made again
	rankDear         // it comes from elsewhere, or is what a failed step left for a person to see
	rankOurs         // the build that collects has it
)

// ranks returns those of all items. A file has at least that of the trees it is in, and of
// the differences and failed steps that rest on it, which so go before it.
func (c *collector) ranks() map[*item]int {
	ranks := make(map[*item]int, len(c.items))
	for _, it := range c.items {
		if it.kind == itemFailed {
			ranks[it] = rankDear
		}
		for _, r := range c.recordsOf[it.digest] {
			switch {
			case c.policy.Ours != nil && c.policy.Ours(r.label) && c.s.newest(r):
				ranks[it] = rankOurs
			case c.policy.Dear != nil && c.policy.Dear(r.kind):
				ranks[it] = max(ranks[it], rankDear)
			}
		}
	}
	for range 2 { // from trees to their files, and from there to what these rest on
		for _, it := range c.items {
			for _, d := range c.needs(it) {
				if below := c.byDigest[d]; below != nil {
					ranks[below] = max(ranks[below], ranks[it])
				}
			}
		}
	}
	return ranks
}

// newest reports whether the record is the one that was made last for its label.
func (s *Store) newest(r *recordItem) bool {
	last, err := s.pointed(r.label)
	return err == nil && last != nil && last.Key == r.key
}

// freeing is for how long a file system may take to free what was removed; xfs does that
// behind the back of whoever removed it. Blocks that others share are never freed.
const freeing = time.Second

// awaitFree waits until there is as much free space as is wanted, but not for long.
func (c *collector) awaitFree(ctx context.Context) error {
	for end := time.Now().Add(freeing); time.Now().Before(end); {
		space, err := c.s.Space()
		if err != nil || space.Free >= c.policy.MinFree {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// chooseForRoom chooses what has to go beside what is chosen so that enough is free. If
// planned is set the latter is still there, and the report is filled in as if all went well.
func (c *collector) chooseForRoom(planned bool) ([]*item, error) {
	if c.policy.MinFree <= 0 {
		return nil, nil
	}
	space, err := c.s.Space()
	lacking := c.policy.MinFree - space.Free
	if planned {
		lacking -= c.report.Freed
	}
	if err != nil || lacking <= 0 {
		return nil, err
	}
	var left, chosen []*item
	for _, it := range c.items { // by last use, trees before files
		if !it.chosen && !c.held(it.digest, it.used) {
			left = append(left, it)
		}
	}
	ranks := c.ranks()
	slices.SortStableFunc(left, func(a, b *item) int { return cmp.Compare(ranks[a], ranks[b]) })
	for _, it := range left {
		if lacking <= 0 {
			break
		}
		it.chosen = true
		chosen = append(chosen, it)
		lacking -= it.alloc
		if planned {
			c.count(it)
		}
	}
	return chosen, nil
}

const (
	// collectEvery is how often builds collect.
	collectEvery = time.Hour
	// collectLow is how often they do while the disk is almost full. It is
	// not each time: on a disk that others have filled there may be nothing
	// to take, and looking for it costs more than a build with nothing to do.
	collectLow = time.Minute
)

// AutoCollect is [Store.Collect] for the end of a build: it does nothing when
// any collection of this store was begun within the last hour, or, if less
// than the reserve of the file system is free, within the last minute; and
// nothing while another one is under way. The report is then zero. It also makes room
// up to the reserve.
func (s *Store) AutoCollect(ctx context.Context, p Policy) (CollectReport, error) {
	if s.readOnly != nil {
		return CollectReport{}, nil
	}
	if due, err := s.collectDue(); err != nil || !due {
		return CollectReport{}, err
	}
	lock, err := tryLock(s.lockPath("collect"), flock.Exclusive)
	if errors.Is(err, flock.ErrLocked) {
		return CollectReport{}, nil
	}
	if err != nil {
		return CollectReport{}, fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	defer lock.Close()
	// Another one may have ended since we looked.
	if due, err := s.collectDue(); err != nil || !due {
		return CollectReport{}, err
	}
	space, err := s.Space()
	if err != nil {
		return CollectReport{}, err
	}
	p.MinFree = max(p.MinFree, space.Reserve())
	return s.collect(ctx, p)
}

// stampCollect notes that a collection begins. The time of the lock file
// holds that, for the file is always there.
func (s *Store) stampCollect() error {
	if err := setMTime(s.lockPath("collect"), time.Now().UnixNano()); err != nil {
		return fmt.Errorf("collect in %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) collectDue() (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(s.lockPath("collect"), &st); err != nil {
		return false, fmt.Errorf("look when %s was last collected: %w", s.dir, err)
	}
	since := time.Since(time.Unix(st.Mtim.Unix()))
	if since < 0 || since >= collectEvery {
		return true, nil // a time to come is a clock that was put right
	}
	if since < collectLow {
		return false, nil
	}
	space, err := s.Space()
	return err == nil && space.short(0) > 0, err
}
