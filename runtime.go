package courante

import "context"

type batch struct {
	svc   *Service
	boxes map[Key]*box
}

type node struct{ store Store }

func (n *node) command(ctx context.Context, c *Command, call Call) (Result, error) {
	return Result{}, ErrClosed
}
