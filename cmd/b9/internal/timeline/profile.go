package timeline

import (
	"cmp"
	"slices"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
)

// Fill fills in what follows from when the steps of a profile began and how long they
// took: the offsets and lanes, the sums, and the order. The length of the build is that of
// the last step where the build did not end.
func Fill(p *output.Profile) {
	slices.SortStableFunc(p.Steps, func(a, b output.ProfileStep) int { return a.Started.Compare(b.Started) })
	var lanes []float64 // when each is free
	var end, busy float64
	for i := range p.Steps {
		s := &p.Steps[i]
		s.Offset = max(0, s.Started.Sub(p.Build.Started).Seconds())
		took := Seconds(s.StepRun)
		ends := s.Offset + took
		s.Lane = slices.IndexFunc(lanes, func(free float64) bool { return free <= s.Offset })
		if s.Lane < 0 {
			s.Lane, lanes = len(lanes), append(lanes, 0)
		}
		lanes[s.Lane] = ends
		p.Work += took
		busy += max(0, ends-max(end, s.Offset))
		end = max(end, ends)
	}
	p.Idle = max(0, Length(*p)-busy)
}

// Length is how long the build took, in seconds, as far as that is known.
func Length(p output.Profile) float64 {
	if p.Build.Seconds != nil {
		return *p.Build.Seconds
	}
	end := 0.0
	for _, s := range p.Steps {
		end = max(end, s.Offset+Seconds(s.StepRun))
	}
	return end
}

// Seconds is what a step took; 0 where it did not end.
func Seconds(s output.StepRun) float64 {
	if s.Seconds == nil {
		return 0
	}
	return *s.Seconds
}

// Duration is Seconds as a duration.
func Duration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Slowest are the steps that took longest, at most so many.
func Slowest(p output.Profile, most int) []output.ProfileStep {
	all := slices.Clone(p.Steps)
	slices.SortStableFunc(all, func(a, b output.ProfileStep) int { return cmp.Compare(Seconds(b.StepRun), Seconds(a.StepRun)) })
	return all[:min(most, len(all))]
}
