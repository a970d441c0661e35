package engine

import "context"

// SignIn is the sign of what was placed in dir at rel.
func SignIn(dir, rel string) string {
	placed, _ := PlacedIn(dir)
	return placed[rel].Sign
}

// Claim does what comes before results are placed, as a build does that is killed then.
func Claim(ctx context.Context, dir string, wanted ...Wanted) error {
	p, err := newPlacer(Destination{Dir: dir, Umask: 0o022}, wanted)
	if err != nil {
		return err
	}
	p.store = wanted[0].Artifact.store
	if err := p.open(ctx); err != nil {
		return err
	}
	defer p.close()
	var todo []placing
	for _, w := range wanted {
		todo = append(todo, placing{artifact: w.Artifact, rel: w.Path, result: &Placed{}})
	}
	return p.claim(ctx, todo)
}

// PlaceAndDie places as [Place] does, up to the moment before .placed tells of it.
func PlaceAndDie(ctx context.Context, dir string, w Wanted) error {
	p, err := newPlacer(Destination{Dir: dir, Umask: 0o022}, []Wanted{w})
	if err != nil {
		return err
	}
	p.store = w.Artifact.store
	if err := p.open(ctx); err != nil {
		return err
	}
	defer p.close()
	r, err := p.resultOf(ctx, w)
	if err != nil {
		return err
	}
	todo := []placing{{artifact: w.Artifact, rel: w.Path, result: &r}}
	if err := p.claim(ctx, todo); err != nil {
		return err
	}
	return p.placeBatch(ctx, todo)
}
