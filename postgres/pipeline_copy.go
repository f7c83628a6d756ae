package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copy adds a COPY; rows are its messages, see beginCopy.
func (p *pipeline) copy(sql string, rows []byte) {
	p.query(sql, nil)
	if p.err == nil {
		p.steps[len(p.steps)-1].copy = rows
		p.copies = true
	}
}

// runCopying is run for a pipeline with a COPY, which the driver's do not take.
// It sends everything before it reads, so what comes back must be short enough
// for the buffers of the connection: that of a unit's commit is.
func (p *pipeline) runCopying() error {
	conn := p.conn.PgConn()
	if err := conn.SyncConn(p.ctx); err != nil {
		return &notSentError{err}
	}
	out := p.encode()
	stop := context.AfterFunc(p.ctx, func() { _ = conn.Conn().SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			p.close() // whoever had the connection next would have the deadline
		}
	}()
	if n, err := conn.Conn().Write(out); err != nil {
		p.close()
		if n == 0 {
			return &notSentError{err}
		}
		return lostAnswer{err}
	}
	return p.receive(conn)
}

func (p *pipeline) encode() []byte {
	size := 0
	for i := range p.steps {
		size += len(p.steps[i].copy) + 128
		for _, param := range p.steps[i].params {
			size += len(param)
		}
	}
	out := make([]byte, 0, size)
	for i := range p.steps {
		s := &p.steps[i]
		if s.statement == nil {
			out = encoded((&pgproto3.Parse{Query: s.sql}).Encode(out))
			out = encodeExecute(out, &pgproto3.Bind{})
			continue
		}
		formats := s.formats
		if formats == nil && len(s.params) > 0 {
			formats = binaryFormat
		}
		out = encodeExecute(out, &pgproto3.Bind{
			PreparedStatement: s.statement.Name, Parameters: s.params, ParameterFormatCodes: formats, ResultFormatCodes: binaryFormat,
		})
		out = append(out, s.copy...)
	}
	return encoded((&pgproto3.Sync{}).Encode(out))
}

// receive reads the answers. The server is ready again when all were answered,
// or one has failed.
func (p *pipeline) receive(conn *pgconn.PgConn) error {
	answered := 0
	var failed error
	fail := func(err error) {
		if failed != nil {
			return
		}
		if failed = err; answered < len(p.steps) && p.steps[answered].projection != "" {
			failed = &projectionError{p.steps[answered].projection, err}
		}
	}
	for {
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			p.close()
			var server *pgconn.PgError
			switch {
			case p.ends && answered == len(p.steps): // as in run
				return failed
			case errors.As(err, &server): // the session's last words
				fail(server)
			default:
				fail(lostAnswer{err})
			}
			return failed
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if row := p.steps[answered].row; row != nil && failed == nil {
				failed = row(msg.Values)
			}
		case *pgproto3.CommandComplete:
			answered++
		case *pgproto3.ErrorResponse:
			fail(pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.ReadyForQuery:
			return failed
		}
	}
}

func (p *pipeline) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.conn.Close(ctx)
}
