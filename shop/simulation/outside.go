package simulation

import (
	"context"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/notification"
)

// What the contexts see of those outside, each call on the simulation's wire.

type provider struct {
	p *courantetest.Process
	w *town
}

type answer struct {
	text, refused string
	found         bool
	amount        int64
}

func (o provider) Charge(ctx context.Context, key, token string, amount int64, currency string) (string, error) {
	a, err := courantetest.Outside(o.p, "charge "+key, func() (a answer, err error) {
		a.refused, err = o.w.provider.Charge(ctx, key, token, amount, currency)
		return a, err
	})
	return a.refused, err
}

func (o provider) Lookup(ctx context.Context, key string) (string, bool, error) {
	a, err := courantetest.Outside(o.p, "look up "+key, func() (a answer, err error) {
		a.refused, a.found, err = o.w.provider.Lookup(ctx, key)
		return a, err
	})
	return a.refused, a.found, err
}

func (o provider) Void(ctx context.Context, key string) (int64, error) {
	a, err := courantetest.Outside(o.p, "void "+key, func() (a answer, err error) {
		a.amount, err = o.w.provider.Void(ctx, key)
		return a, err
	})
	return a.amount, err
}

func (o provider) Refund(ctx context.Context, key, refund string, amount int64) error {
	_, err := courantetest.Outside(o.p, "refund "+refund, func() (struct{}, error) {
		return struct{}{}, o.w.provider.Refund(ctx, key, refund, amount)
	})
	return err
}

type carrier struct {
	p *courantetest.Process
	w *town
}

func (o carrier) Book(ctx context.Context, key, country, address string) (tracking, refused string, err error) {
	a, err := courantetest.Outside(o.p, "book "+key, func() (a answer, err error) {
		a.text, a.refused, err = o.w.carrier.Book(ctx, key, country, address)
		return a, err
	})
	return a.text, a.refused, err
}

func (o carrier) Lookup(ctx context.Context, key string) (tracking, refused string, found bool, err error) {
	a, err := courantetest.Outside(o.p, "look up "+key, func() (a answer, err error) {
		a.text, a.refused, a.found, err = o.w.carrier.Lookup(ctx, key)
		return a, err
	})
	return a.text, a.refused, a.found, err
}

func (o carrier) Cancel(ctx context.Context, key string) error {
	_, err := courantetest.Outside(o.p, "call off "+key, func() (struct{}, error) { return struct{}{}, o.w.carrier.Cancel(ctx, key) })
	return err
}

type mailer struct {
	p *courantetest.Process
	w *town
}

func (o mailer) Send(_ context.Context, key string, m notification.Mail) error {
	_, err := courantetest.Outside(o.p, "mail "+key, func() (struct{}, error) {
		if !o.w.sent[key] {
			o.w.sent[key] = true
			o.w.mails[m.OrderID] = append(o.w.mails[m.OrderID], m.Kind)
			o.w.believe(m)
		}
		return struct{}{}, nil
	})
	return err
}
