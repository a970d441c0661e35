package layer

// blocks tells the kind of each block of an image. Where nothing was written it
// takes no memory: 4 GiB of the image are a piece, which is made when it is needed.
type blocks []*[pieceBlocks]Kind

const pieceBlocks = 1 << 16

// at returns the kind of block b.
func (m blocks) at(b int64) Kind {
	if i := b / pieceBlocks; i < int64(len(m)) && m[i] != nil {
		return m[i][b%pieceBlocks]
	}
	return Base
}

// set makes the blocks [from, to) those of a kind.
func (m *blocks) set(from, to int64, k Kind) {
	for from < to {
		i, next := from/pieceBlocks, min(to, (from/pieceBlocks+1)*pieceBlocks)
		if m.piece(i, k != Base) {
			p := (*m)[i][from%pieceBlocks:]
			p = p[:next-from]
			for j := range p {
				p[j] = k
			}
		}
		from = next
	}
}

// piece reports whether piece i is there, and makes it if asked to.
func (m *blocks) piece(i int64, make bool) bool {
	if make {
		for int64(len(*m)) <= i {
			*m = append(*m, nil)
		}
		if (*m)[i] == nil {
			(*m)[i] = new([pieceBlocks]Kind)
		}
	}
	return i < int64(len(*m)) && (*m)[i] != nil
}

// run returns the kind of block b, and the end of the run of that kind from b on,
// which lies at or before end.
func (m blocks) run(b, end int64) (Kind, int64) {
	k := m.at(b)
	for b < end {
		i := b / pieceBlocks
		next := min(end, (i+1)*pieceBlocks)
		if i >= int64(len(m)) {
			next = end
		}
		if i >= int64(len(m)) || m[i] == nil {
			if k != Base {
				return k, b
			}
			b = next
			continue
		}
		for ; b < next; b++ {
			if m[i][b%pieceBlocks] != k {
				return k, b
			}
		}
	}
	return k, end
}

// runs lists the runs below end that are not of the base.
func (m blocks) runs(end int64) (runs []Run) {
	for b := int64(0); b < end; {
		k, to := m.run(b, end)
		if k != Base {
			runs = append(runs, Run{b, to - b, k})
		}
		b = to
	}
	return runs
}
