// Package link carries connections to a server and breaks them as networks do,
// for drills.
package link

import (
	"net"
	"sync"
	"time"
)

// Fault is what is wrong with a link. The zero value is nothing.
type Fault struct {
	Delay     time.Duration // everything arrives so much later, in each direction
	Cut       bool          // connections are reset, new ones too
	Silent    bool          // connections stay open, and nothing arrives; they are reset when that ends
	SlowClose time.Duration // the end of a connection is heard so much later at the other side
}

// Link is the way to a server. Its methods may be called by several goroutines
// at once.
type Link struct {
	network, address string
	listener         net.Listener

	mu    sync.Mutex // guards what follows
	fault Fault
	open  map[net.Conn]bool
}

// New opens a way to the server at an address of its own.
func New(network, address string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{network: network, address: address, listener: listener, open: map[net.Conn]bool{}}
	go l.accept()
	return l, nil
}

// Address is where clients connect to.
func (l *Link) Address() string { return l.listener.Addr().String() }

// Set breaks the link, or mends it.
func (l *Link) Set(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.Cut || l.fault.Silent && !f.Silent {
		for c := range l.open {
			reset(c)
		}
	}
	l.fault = f
}

// Close ends the link and its connections.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.Set(Fault{Cut: true})
}

func (l *Link) now() Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.carry(client)
	}
}

// carry connects a client until one side ends.
func (l *Link) carry(client net.Conn) {
	if l.now().Cut || !l.enter(client) {
		reset(client)
		return
	}
	defer l.leave(client)
	server, err := net.DialTimeout(l.network, l.address, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	if !l.enter(server) {
		reset(client)
		reset(server)
		return
	}
	defer l.leave(server)
	var both sync.WaitGroup
	both.Go(func() { l.pump(client, server) })
	both.Go(func() { l.pump(server, client) })
	both.Wait()
}

func (l *Link) enter(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fault.Cut {
		l.open[c] = true
	}
	return !l.fault.Cut
}

func (l *Link) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	_ = c.Close()
}

// chunk is bytes on their way.
type chunk struct {
	data []byte
	due  time.Time
}

// pump carries one direction, and ends both when one side has ended.
func (l *Link) pump(from, to net.Conn) {
	way := make(chan chunk, 1024)
	var arriving sync.WaitGroup
	arriving.Go(func() {
		for c := range way {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.data); err != nil {
				_ = from.Close() // and what is still on its way is lost
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if f := l.now(); n > 0 && !f.Silent {
			way <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(f.Delay)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	arriving.Wait()
	time.Sleep(l.now().SlowClose)
	_ = to.Close()
	_ = from.Close()
}

// reset ends a connection as a network does that has forgotten it.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
